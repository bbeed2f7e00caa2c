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

resource "coder_agent" "my_agent" {
  os   = "linux"
  arch = "amd64"
}
