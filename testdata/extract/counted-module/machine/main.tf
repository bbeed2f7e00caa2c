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

variable "label" {
  type = string
}

resource "coder_agent" "inner" {
  os   = "linux"
  arch = "amd64"
}

resource "null_resource" "machine" {
  triggers = {
    label = var.label
    token = coder_agent.inner.token
  }
}

output "agent_id" {
  value = coder_agent.inner.id
}

output "machine_id" {
  value = null_resource.machine.id
}
