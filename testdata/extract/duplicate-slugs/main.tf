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

resource "coder_app" "one" {
  agent_id = coder_agent.main.id
  slug     = "same"
}

resource "coder_app" "two" {
  agent_id = coder_agent.main.id
  slug     = "same"
}
