# A workspace on an EC2 instance. The instance is stopped, not destroyed, with the
# workspace, so its root volume keeps the home directory.

terraform {
  required_providers {
    coder = {
      source = "coder/coder"
    }
    aws = {
      source = "hashicorp/aws"
    }
  }
}

provider "coder" {}

provider "aws" {
  region = data.coder_parameter.region.value
}

variable "subnet_id" {
  description = "Subnet of the instances; empty for the default one."
  type        = string
  default     = ""
}

data "coder_workspace" "me" {}
data "coder_workspace_owner" "me" {}

data "coder_parameter" "region" {
  name         = "region"
  display_name = "Region"
  description  = "An instance cannot move to another one."
  default      = "eu-central-1"
  mutable      = false

  option {
    name  = "Frankfurt"
    value = "eu-central-1"
  }

  option {
    name  = "Oregon"
    value = "us-west-2"
  }
}

data "coder_parameter" "instance_type" {
  name         = "instance_type"
  display_name = "Instance type"
  default      = "t3.medium"
  mutable      = true

  option {
    name  = "2 cores, 4 GB"
    value = "t3.medium"
  }

  option {
    name  = "4 cores, 16 GB"
    value = "t3.xlarge"
  }
}

data "coder_parameter" "disk_gb" {
  name         = "disk_gb"
  display_name = "Disk"
  type         = "number"
  default      = 30
  mutable      = true

  validation {
    min       = 10
    max       = 500
    monotonic = "increasing"
  }
}

data "aws_ami" "ubuntu" {
  most_recent = true
  owners      = ["099720109477"] # Canonical

  filter {
    name   = "name"
    values = ["ubuntu/images/hvm-ssd*/ubuntu-noble-24.04-amd64-server-*"]
  }
}

resource "coder_agent" "main" {
  os   = "linux"
  arch = "amd64"
  auth = "aws-instance-identity"
}

resource "aws_instance" "workspace" {
  ami           = data.aws_ami.ubuntu.id
  instance_type = data.coder_parameter.instance_type.value
  subnet_id     = var.subnet_id != "" ? var.subnet_id : null

  user_data = <<-EOT
    #cloud-config
    users:
      - name: ${lower(data.coder_workspace_owner.me.name)}
        shell: /bin/bash
        sudo: ALL=(ALL) NOPASSWD:ALL
    write_files:
      - path: /opt/agent/start
        permissions: "0755"
        encoding: b64
        content: ${base64encode(coder_agent.main.init_script)}
    bootcmd:
      - [sh, -c, "test ! -x /opt/agent/start || su ${lower(data.coder_workspace_owner.me.name)} -c /opt/agent/start &"]
    runcmd:
      - [sh, -c, "su ${lower(data.coder_workspace_owner.me.name)} -c /opt/agent/start &"]
  EOT

  metadata_options {
    http_tokens = "required"
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = data.coder_parameter.disk_gb.value
    encrypted   = true
  }

  tags = {
    Name  = "${data.coder_workspace_owner.me.name}-${data.coder_workspace.me.name}"
    Owner = data.coder_workspace_owner.me.name
  }

  # A newer image or a changed first boot is no reason to lose the disk.
  lifecycle {
    ignore_changes = [ami, user_data]
  }
}

resource "aws_ec2_instance_state" "workspace" {
  instance_id = aws_instance.workspace.id
  state       = data.coder_workspace.me.transition == "start" ? "running" : "stopped"
}

resource "coder_metadata" "workspace" {
  resource_id = aws_instance.workspace.id

  item {
    key   = "region"
    value = data.coder_parameter.region.value
  }

  item {
    key   = "type"
    value = data.coder_parameter.instance_type.value
  }
}
