# A workspace that needs no provider: every resource is a `terraform_data`,
# which is built into Terraform (1.4 and later) and OpenTofu. It makes nothing
# outside its own state, so it runs on any machine that has an engine.

terraform {
  required_version = ">= 1.4.0"
}

variable "greeting" {
  description = "The first word that each service says when it starts."
  type        = string
  default     = "hello"

  validation {
    condition     = length(var.greeting) > 0 && length(var.greeting) <= 40
    error_message = "The greeting needs between 1 and 40 characters."
  }
}

variable "services" {
  description = "Name and port of each service of the workspace."
  type        = map(number)
  default = {
    editor   = 8080
    database = 5432
  }
}

# The disk: made once, kept for as long as the workspace lives.
resource "terraform_data" "disk" {
  input = {
    size_gb = 10
    label   = "home"
  }
}

# The machine: prints what a machine prints when it comes up.
resource "terraform_data" "machine" {
  input = {
    disk_id = terraform_data.disk.id
    cores   = 2
  }

  provisioner "local-exec" {
    command = <<-EOT
      echo "machine: disk ${self.input.disk_id} attached"
      for step in kernel network clock; do echo "machine: $step up"; done
    EOT
  }
}

# One service per entry of the map.
resource "terraform_data" "service" {
  for_each = var.services

  input = {
    machine_id = terraform_data.machine.id
    port       = each.value
  }

  provisioner "local-exec" {
    command = "echo \"$GREETING from $SERVICE on port $PORT\""

    environment = {
      GREETING = var.greeting
      SERVICE  = each.key
      PORT     = each.value
    }
  }
}

output "services" {
  description = "Where each service listens."
  value       = { for name, service in terraform_data.service : name => "localhost:${service.input.port}" }
}
