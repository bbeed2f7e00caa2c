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

# Sorts first and names the agent too, but needs the machine, which is nearer.
resource "null_resource" "after" {
  triggers = {
    machine = null_resource.machine.id
    agent   = coder_agent.main.id
  }
}

resource "null_resource" "machine" {
  depends_on = [coder_agent.main]
}

resource "null_resource" "last" {
  depends_on = [null_resource.after]
}
