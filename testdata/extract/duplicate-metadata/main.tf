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

resource "null_resource" "machine" {}

resource "coder_metadata" "one" {
  resource_id = null_resource.machine.id
}

resource "coder_metadata" "two" {
  resource_id = null_resource.machine.id
}
