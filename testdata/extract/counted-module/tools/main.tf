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

variable "agent_id" {
  type = string
}

resource "coder_app" "ide" {
  agent_id = var.agent_id
  slug     = "ide"
  url      = "http://localhost:1"
}
