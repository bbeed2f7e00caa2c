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

data "coder_parameter" "one" {
  name    = "same"
  default = ""
}

data "coder_parameter" "two" {
  name    = "same"
  default = ""
}
