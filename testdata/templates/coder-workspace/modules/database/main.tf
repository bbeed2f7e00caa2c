# A second machine with an agent of its own. That agent stands in a module with `count`,
# so its address has an index in the middle: module.database[0].coder_agent.database.

terraform {
  required_providers {
    coder = {
      source = "coder/coder"
    }
  }
}

variable "name" {
  description = "Name of the machine."
  type        = string
}

variable "arch" {
  description = "Processor architecture of the machine."
  type        = string
}

resource "coder_agent" "database" {
  os    = "linux"
  arch  = var.arch
  order = 2

  display_apps {
    vscode       = false
    web_terminal = true
  }
}

resource "terraform_data" "machine" {
  input = {
    name  = var.name
    token = coder_agent.database.token
  }

  provisioner "local-exec" {
    command = "echo \"database: $NAME is up\""

    environment = {
      NAME = var.name
    }
  }
}

resource "coder_metadata" "machine" {
  resource_id = terraform_data.machine.id
  daily_cost  = 3

  item {
    key   = "engine"
    value = "PostgreSQL"
  }
}
