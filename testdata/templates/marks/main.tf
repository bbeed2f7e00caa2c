# Thirty resources that leave marks outside the state, as a cloud keeps machines: each one
# writes its address and its id into a file as soon as it is there, and takes a while
# before and after. What was really made and what a state knows can then be compared.

terraform {
  required_version = ">= 1.4.0"

  required_providers {
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
  description = "Size of the input of each of the twenty; a state holds it twice."
  type        = number
  default     = 0
}

resource "terraform_data" "built_in" {
  count = 20

  input = join("", [for kib in range(var.kib) : format("%01024d", kib)])

  provisioner "local-exec" {
    command = "sleep 0.$BEFORE; echo \"$ADDRESS $ID\" >> \"$MARKS/$CODER_WORKSPACE_NAME\"; sleep 0.$AFTER"

    environment = {
      ADDRESS = "terraform_data.built_in[${count.index}]"
      AFTER   = 3 + count.index % 4
      BEFORE  = 1 + count.index % 3
      ID      = self.id
      MARKS   = var.marks
    }
  }
}

resource "null_resource" "plugin" {
  count = 10

  provisioner "local-exec" {
    command = "sleep 0.$BEFORE; echo \"$ADDRESS $ID\" >> \"$MARKS/$CODER_WORKSPACE_NAME\"; sleep 0.$AFTER"

    environment = {
      ADDRESS = "null_resource.plugin[${count.index}]"
      AFTER   = 2 + count.index % 3
      BEFORE  = 2 + count.index % 4
      ID      = self.id
      MARKS   = var.marks
    }
  }
}
