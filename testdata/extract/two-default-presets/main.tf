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

data "coder_workspace_preset" "one" {
  name    = "One"
  default = true
}

data "coder_workspace_preset" "two" {
  name    = "Two"
  default = true
}
