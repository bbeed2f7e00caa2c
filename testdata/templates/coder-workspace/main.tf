# A workspace that uses most of the coder/coder provider. The machine and its disk are
# `terraform_data`, so that it can be applied anywhere: what a cloud would make is only
# written down in the state.

terraform {
  required_version = ">= 1.4.0"

  required_providers {
    coder = {
      source  = "coder/coder"
      version = "~> 2.19"
    }
  }
}

provider "coder" {}

data "coder_provisioner" "here" {}
data "coder_workspace" "me" {}
data "coder_workspace_owner" "me" {}

# Where the jobs of this template may run: the region that the user chose.
data "coder_workspace_tags" "placement" {
  tags = {
    "region" = data.coder_parameter.region.value
  }
}

# Used when the deployment knows such a provider, ignored when it does not.
data "coder_external_auth" "forge" {
  id       = "forge"
  optional = true
}

resource "coder_agent" "main" {
  os                  = "linux"
  arch                = var.arch
  connection_timeout  = 120
  motd_file           = "/etc/motd"
  troubleshooting_url = "https://example.com/help"
  api_key_scope       = "all"
  order               = 1

  env = {
    GIT_AUTHOR_NAME  = coalesce(data.coder_workspace_owner.me.full_name, data.coder_workspace_owner.me.name)
    GIT_AUTHOR_EMAIL = data.coder_workspace_owner.me.email
    PROJECT          = data.coder_parameter.project.value
  }

  startup_script_behavior = "non-blocking"
  startup_script          = <<-EOT
    set -eu
    mkdir -p "$HOME/$PROJECT"
    echo "welcome to $PROJECT"
  EOT

  shutdown_script = "echo goodbye"

  display_apps {
    vscode                 = true
    vscode_insiders        = false
    web_terminal           = true
    ssh_helper             = true
    port_forwarding_helper = false
  }

  metadata {
    key          = "cpu"
    display_name = "CPU"
    script       = "cut -d' ' -f1 /proc/loadavg"
    interval     = 10
    timeout      = 1
    order        = 1
  }

  metadata {
    key          = "memory"
    display_name = "Memory available"
    script       = "awk '/MemAvailable/ {print $2, $3}' /proc/meminfo"
    interval     = 10
    timeout      = 1
    order        = 2
  }

  metadata {
    key          = "disk"
    display_name = "Home disk"
    script       = "df -h --output=pcent $HOME | tail -n 1"
    interval     = 60
    timeout      = 5
    order        = 3
  }

  resources_monitoring {
    memory {
      enabled   = true
      threshold = 85
    }

    volume {
      path      = "/home"
      enabled   = true
      threshold = 90
    }
  }
}

# Outlives a stop; goes with the workspace.
resource "terraform_data" "home" {
  input = {
    owner = data.coder_workspace_owner.me.name
    gb    = tonumber(data.coder_parameter.disk_gb.value)
  }

  lifecycle {
    ignore_changes = [input["owner"]]
  }
}

# Exists only while the workspace is started.
resource "terraform_data" "machine" {
  count = data.coder_workspace.me.start_count

  input = {
    name    = "${data.coder_workspace_owner.me.name}-${data.coder_workspace.me.name}"
    region  = data.coder_parameter.region.value
    cores   = tonumber(data.coder_parameter.cpu.value)
    home_id = terraform_data.home.id
    image   = var.image
    init    = sha256(coder_agent.main.init_script)
    token   = coder_agent.main.token
  }

  provisioner "local-exec" {
    command = "echo \"machine: $CORES cores in $REGION, image $IMAGE\"; if [ \"$RESET\" = true ]; then echo 'machine: cache cleared'; fi"

    environment = {
      CORES  = data.coder_parameter.cpu.value
      REGION = data.coder_parameter.region.value
      IMAGE  = var.image
      RESET  = data.coder_parameter.reset_cache.value
    }
  }
}

resource "coder_metadata" "machine" {
  count = data.coder_workspace.me.start_count

  resource_id = terraform_data.machine[0].id
  icon        = "/icon/memory.svg"
  daily_cost  = 4 * tonumber(data.coder_parameter.cpu.value)

  item {
    key   = "region"
    value = data.coder_parameter.region.value
  }

  item {
    key   = "cores"
    value = data.coder_parameter.cpu.value
  }

  item {
    key       = "registry token"
    value     = var.registry_token
    sensitive = true
  }
}

resource "coder_metadata" "home" {
  resource_id = terraform_data.home.id
  icon        = "/icon/database.svg"
  daily_cost  = 1

  item {
    key   = "size"
    value = "${data.coder_parameter.disk_gb.value} GB"
  }
}

output "machine" {
  description = "Name of the machine, empty while the workspace is stopped."
  value       = one(terraform_data.machine[*].input.name)
  sensitive   = true
}
