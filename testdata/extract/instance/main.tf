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
  auth = "google-instance-identity"
}

resource "null_resource" "machine" {
  depends_on = [coder_agent.main]
}

resource "coder_agent_instance" "main" {
  agent_id    = coder_agent.main.id
  instance_id = "vm-0001"
}
