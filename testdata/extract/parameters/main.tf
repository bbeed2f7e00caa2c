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

data "coder_parameter" "region" {
  name         = "region"
  display_name = "Region"
  description  = "Where it runs"
  icon         = "/icon/globe.svg"
  default      = "eu"
  mutable      = true
  order        = 9
  option {
    name        = "Europe"
    value       = "eu"
    description = "Near"
    icon        = "/icon/eu.svg"
  }
  option {
    name  = "America"
    value = "us"
  }
}

data "coder_parameter" "disk" {
  name    = "disk"
  type    = "number"
  default = 20
  validation {
    min       = 0
    monotonic = "increasing"
  }
}

data "coder_parameter" "code" {
  name = "code"
  validation {
    regex = "^[a-z]+$"
    error = "letters only"
  }
}

data "coder_parameter" "debug" {
  name      = "debug"
  type      = "bool"
  default   = false
  ephemeral = true
  mutable   = true
}

data "coder_parameter" "tags" {
  name    = "tags"
  type    = "list(string)"
  default = jsonencode(["a", "b"])
}

data "coder_workspace_preset" "small" {
  name        = "Small"
  description = "Cheap"
  icon        = "/icon/s.svg"
  default     = true
  parameters = {
    region = "us"
    disk   = "10"
  }
}

data "coder_workspace_preset" "pool" {
  name = "Pool"
  parameters = {
    region = "eu"
    absent = "x"
  }
  prebuilds {
    instances = 2
    expiration_policy {
      ttl = 86400
    }
    scheduling {
      timezone = "UTC"
      schedule {
        cron      = "* 8-18 * * 1-5"
        instances = 4
      }
    }
  }
}

data "coder_external_auth" "github" {
  id = "github"
}

data "coder_external_auth" "artifacts" {
  id       = "artifacts"
  optional = true
}
