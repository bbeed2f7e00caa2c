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

resource "coder_agent" "alone" {
  os   = "linux"
  arch = "amd64"
}

resource "coder_app" "ide" {
  agent_id = coder_agent.alone.id
  slug     = "ide"
  url      = "http://localhost:1"
}

resource "null_resource" "other" {}
