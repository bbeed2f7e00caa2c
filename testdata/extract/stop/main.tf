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

data "coder_workspace" "me" {}

resource "coder_agent" "main" {
  os   = "linux"
  arch = "amd64"
}

resource "null_resource" "home" {}

resource "null_resource" "machine" {
  count = data.coder_workspace.me.start_count
  triggers = {
    home  = null_resource.home.id
    token = coder_agent.main.token
  }
}
