terraform {
  required_providers {
    coder = {
      source = "coder/coder"
    }
  }
}

variable "agent_id" {
  description = "Agent that runs the editor."
  type        = string
}

variable "folder" {
  description = "What the editor opens."
  type        = string
}

variable "port" {
  description = "Where the editor listens."
  type        = number
}

resource "coder_script" "editor" {
  agent_id     = var.agent_id
  display_name = "Editor"
  icon         = "/icon/code.svg"
  run_on_start = true
  script       = "code-server --auth none --port ${var.port} ${var.folder} >/tmp/editor.log 2>&1 &"
}

resource "coder_app" "editor" {
  agent_id     = var.agent_id
  slug         = "editor"
  display_name = "Editor"
  icon         = "/icon/code.svg"
  url          = "http://localhost:${var.port}/?folder=${var.folder}"
  subdomain    = true
  share        = "owner"
  group        = "Project"
  order        = 1

  healthcheck {
    url       = "http://localhost:${var.port}/healthz"
    interval  = 5
    threshold = 6
  }
}
