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

# Two agents on one machine, and one machine out of several for one agent.
resource "coder_agent" "a" {
  os   = "linux"
  arch = "amd64"
}

resource "coder_agent" "b" {
  os   = "linux"
  arch = "amd64"
}

resource "null_resource" "machine" {
  for_each = {
    left  = coder_agent.a.token
    right = coder_agent.b.token
  }
  triggers = {
    token = each.value
  }
}
