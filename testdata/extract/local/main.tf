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

locals {
  agent = coder_agent.main
  init  = "exec ${local.agent.init_script}"
}

resource "coder_agent" "main" {
  os   = "linux"
  arch = "amd64"
}

resource "coder_app" "ide" {
  agent_id = local.agent.id
  slug     = "ide"
  url      = "http://localhost:1"
}

resource "null_resource" "machine" {
  triggers = {
    init = local.init
  }
}
