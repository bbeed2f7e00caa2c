# A workspace on a Compute Engine machine. The boot disk stays, the machine exists only
# while the workspace is started.

terraform {
  required_providers {
    coder = {
      source = "coder/coder"
    }
    google = {
      source = "hashicorp/google"
    }
  }
}

provider "coder" {}

provider "google" {
  project = var.project
  zone    = data.coder_parameter.zone.value
}

variable "project" {
  description = "Google Cloud project of the machines."
  type        = string
}

variable "service_account" {
  description = "E-mail of the service account the machines run as; empty for the project's default."
  type        = string
  default     = ""
}

data "coder_workspace" "me" {}
data "coder_workspace_owner" "me" {}

data "coder_parameter" "zone" {
  name         = "zone"
  display_name = "Zone"
  default      = "europe-west3-a"
  mutable      = false

  option {
    name  = "Frankfurt"
    value = "europe-west3-a"
  }

  option {
    name  = "Oregon"
    value = "us-west1-a"
  }
}

data "coder_parameter" "machine_type" {
  name         = "machine_type"
  display_name = "Machine type"
  default      = "e2-standard-2"
  mutable      = true

  option {
    name  = "2 cores, 8 GB"
    value = "e2-standard-2"
  }

  option {
    name  = "4 cores, 16 GB"
    value = "e2-standard-4"
  }
}

locals {
  name = "ws-${data.coder_workspace.me.id}"
}

resource "coder_agent" "main" {
  os   = "linux"
  arch = "amd64"
  auth = "google-instance-identity"
}

resource "google_compute_disk" "root" {
  name  = "${local.name}-root"
  type  = "pd-balanced"
  zone  = data.coder_parameter.zone.value
  size  = 30
  image = "ubuntu-os-cloud/ubuntu-2404-lts-amd64"

  # A newer image is no reason to lose the disk.
  lifecycle {
    ignore_changes = [image]
  }
}

resource "google_compute_instance" "workspace" {
  count = data.coder_workspace.me.start_count

  name         = local.name
  zone         = data.coder_parameter.zone.value
  machine_type = data.coder_parameter.machine_type.value

  boot_disk {
    auto_delete = false
    source      = google_compute_disk.root.name
  }

  network_interface {
    network = "default"

    access_config {}
  }

  service_account {
    email  = var.service_account != "" ? var.service_account : null
    scopes = ["cloud-platform"]
  }

  metadata_startup_script = <<-EOT
    #!/bin/sh
    set -eu
    user="${lower(data.coder_workspace_owner.me.name)}"
    id "$user" >/dev/null 2>&1 || useradd --create-home --shell /bin/bash "$user"
    cat >/opt/agent-start <<'SCRIPT'
    ${coder_agent.main.init_script}
    SCRIPT
    chmod 0755 /opt/agent-start
    exec su "$user" -c /opt/agent-start
  EOT
}

resource "coder_agent_instance" "workspace" {
  count       = data.coder_workspace.me.start_count
  agent_id    = coder_agent.main.id
  instance_id = google_compute_instance.workspace[0].instance_id
}

resource "coder_metadata" "machine" {
  count       = data.coder_workspace.me.start_count
  resource_id = google_compute_instance.workspace[0].id

  item {
    key   = "type"
    value = data.coder_parameter.machine_type.value
  }
}
