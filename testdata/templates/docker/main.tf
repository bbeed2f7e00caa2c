# A workspace as a container on a Docker host. The home directory is a volume that
# outlives a stop; the container exists only while the workspace is started.

terraform {
  required_providers {
    coder = {
      source = "coder/coder"
    }
    docker = {
      source = "kreuzwerker/docker"
    }
  }
}

provider "coder" {}

provider "docker" {
  host = var.docker_host != "" ? var.docker_host : null
}

variable "docker_host" {
  description = "Address of the Docker daemon; empty for the local socket."
  type        = string
  default     = ""
}

variable "image" {
  description = "Image of the container; it needs curl and a user with home /home/coder."
  type        = string
  default     = "codercom/enterprise-base:ubuntu"
}

data "coder_provisioner" "here" {}
data "coder_workspace" "me" {}
data "coder_workspace_owner" "me" {}

data "coder_parameter" "memory_gb" {
  name         = "memory_gb"
  display_name = "Memory"
  description  = "Upper limit in GB."
  type         = "number"
  form_type    = "slider"
  default      = 4
  mutable      = true

  validation {
    min = 1
    max = 32
  }
}

locals {
  name = lower("${data.coder_workspace_owner.me.name}-${data.coder_workspace.me.name}")
}

resource "coder_agent" "main" {
  os   = "linux"
  arch = data.coder_provisioner.here.arch

  metadata {
    key          = "load"
    display_name = "Load"
    script       = "cut -d' ' -f1-3 /proc/loadavg"
    interval     = 15
    timeout      = 1
  }
}

resource "coder_app" "web" {
  agent_id     = coder_agent.main.id
  slug         = "web"
  display_name = "Port 8080"
  url          = "http://localhost:8080"
  share        = "owner"
}

resource "docker_volume" "home" {
  name = "home-${data.coder_workspace.me.id}"

  # A renamed workspace keeps its files.
  lifecycle {
    ignore_changes = all
  }
}

resource "docker_container" "workspace" {
  count = data.coder_workspace.me.start_count

  image    = var.image
  name     = "workspace-${local.name}"
  hostname = data.coder_workspace.me.name
  memory   = 1024 * tonumber(data.coder_parameter.memory_gb.value)

  entrypoint = ["sh", "-c", replace(coder_agent.main.init_script, "/localhost|127\\.0\\.0\\.1/", "host.docker.internal")]
  env        = ["CODER_AGENT_TOKEN=${coder_agent.main.token}"]

  host {
    host = "host.docker.internal"
    ip   = "host-gateway"
  }

  volumes {
    volume_name    = docker_volume.home.name
    container_path = "/home/coder"
  }
}

resource "coder_metadata" "container" {
  count       = data.coder_workspace.me.start_count
  resource_id = docker_container.workspace[0].id

  item {
    key   = "image"
    value = var.image
  }
}
