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

resource "coder_app" "chat" {
  agent_id = coder_agent.main.id
  slug     = "chat"
  url      = "http://localhost:3"
}

data "coder_task" "me" {}

resource "coder_ai_task" "task" {
  app_id = coder_app.chat.id
}

resource "null_resource" "machine" {
  depends_on = [coder_agent.main]
}
