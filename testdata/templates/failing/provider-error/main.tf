terraform {
  required_providers {
    local = {
      source = "hashicorp/local"
    }
  }
}

variable "file" {
  description = "A file that the provider reads while it plans."
  type        = string
  default     = "/nonexistent/inventory.json"
}

data "local_file" "inventory" {
  filename = var.file
}

resource "terraform_data" "machine" {
  input = data.local_file.inventory.content
}
