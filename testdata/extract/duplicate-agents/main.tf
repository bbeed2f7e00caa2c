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
  count = 2
  os    = "linux"
  arch  = "amd64"
}
