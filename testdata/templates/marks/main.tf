# Thirty resources that leave marks outside the state, as a cloud keeps machines. Twenty
# have a provisioner that writes address and id into a file: these take a while before and
# after, and an engine knows them before the mark is there. Ten are files themselves: they
# exist before the engine has written them down. What was really made and what a state
# knows can then be compared. Another generation changes twelve in place, replaces five
# after deleting them and five before; a stop deletes five.

terraform {
  required_version = ">= 1.4.0"

  required_providers {
    coder = {
      source = "coder/coder"
    }
    local = {
      source = "hashicorp/local"
    }
    null = {
      source = "hashicorp/null"
    }
  }
}

variable "marks" {
  description = "Directory that gets a file per workspace, with a line per resource made."
  type        = string
}

variable "kib" {
  description = "Size of the input of each of the twelve; a state holds it twice."
  type        = number
  default     = 0
}

variable "generation" {
  description = "What is made, and what another generation makes anew."
  type        = number
  default     = 1
}

data "coder_workspace" "me" {}

locals {
  marks = "${var.marks}/${data.coder_workspace.me.name}"
}

resource "terraform_data" "built_in" {
  count = 12

  input = "${var.generation}${join("", [for kib in range(var.kib) : format("%01024d", kib)])}"

  provisioner "local-exec" {
    command = "sleep 0.$BEFORE; echo \"$ADDRESS $ID\" >> \"$MARKS\"; sleep 0.$AFTER"

    environment = {
      ADDRESS = "terraform_data.built_in[${count.index}]"
      AFTER   = 3 + count.index % 4
      BEFORE  = 1 + count.index % 3
      ID      = self.id
      MARKS   = local.marks
    }
  }
}

resource "null_resource" "plugin" {
  count = 8

  provisioner "local-exec" {
    command = "sleep 0.$BEFORE; echo \"$ADDRESS $ID\" >> \"$MARKS\"; sleep 0.$AFTER"

    environment = {
      ADDRESS = "null_resource.plugin[${count.index}]"
      AFTER   = 2 + count.index % 3
      BEFORE  = 2 + count.index % 4
      ID      = self.id
      MARKS   = local.marks
    }
  }
}

resource "local_file" "plain" {
  count = 5 * data.coder_workspace.me.start_count

  filename = "${local.marks}.plain-${count.index}"
  content  = "${local.marks} plain ${count.index} of generation ${var.generation}"
}

resource "local_file" "swap" {
  count = 5

  filename = "${local.marks}.swap-${count.index}-of-${var.generation}"
  content  = "${local.marks} swap ${count.index} of generation ${var.generation}"

  lifecycle {
    create_before_destroy = true
  }
}
