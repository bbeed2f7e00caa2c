terraform {
  required_providers {
    coder = {
      source = "coder/coder"
    }
    null = {
      source = "hashicorp/null"
    }
  }
}

resource "coder_agent" "main" {
  os   = "linux"
  arch = "amd64"
}

resource "null_resource" "machine" {
  depends_on = [coder_agent.main]
}

resource "null_resource" "disk" {
  count = 2
}

resource "coder_metadata" "machine" {
  resource_id = null_resource.machine.id
  hide        = true
  icon        = "/icon/server.svg"
  daily_cost  = 29
  item {
    key   = "size"
    value = "large"
  }
  item {
    key       = "secret"
    value     = "squirrel"
    sensitive = true
  }
  item {
    key = "nothing"
  }
  item {
    key   = "disk"
    value = null_resource.disk[0].id
  }
}

resource "coder_metadata" "disk" {
  count       = 2
  resource_id = null_resource.disk[count.index].id
  daily_cost  = 10 + count.index
}
