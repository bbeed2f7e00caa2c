# As large as asked for, in every place where a size could hurt: a state, an event line, a
# diagnostic, a flood of output. All text is counted out in blocks, so that whoever reads it
# back can check each byte. Put a file beside this one for a large archive.

terraform {
  required_version = ">= 1.5.0"
}

variable "state_mib" {
  description = "Size of the state: two mebibytes for each resource."
  type        = number
  default     = 2
}

variable "event_mib" {
  description = "Size of one output and of one warning."
  type        = number
  default     = 1
}

variable "lines" {
  description = "Lines that one command prints as fast as it can."
  type        = number
  default     = 1000
}

locals {
  # Block N of 1 KiB is N, padded with zeros.
  event = join("", flatten([
    for mib in range(var.event_mib) : [for kib in range(1024) : format("%01024d", mib * 1024 + kib)]
  ]))
}

resource "terraform_data" "state" {
  count = var.state_mib / 2
  input = join("", [for kib in range(1024) : format("%01024d", count.index * 1024 + kib)])
}

# Again with each build, so that each has an apply and a new state.
resource "terraform_data" "lines" {
  depends_on       = [terraform_data.state]
  triggers_replace = timestamp()

  provisioner "local-exec" {
    command = "seq -f 'line %09.0f' 1 ${var.lines}; sleep 1"
  }
}

check "size" {
  assert {
    condition     = var.event_mib == 0
    error_message = "event ${local.event}"
  }
}

output "event" {
  value = local.event
}

output "secret" {
  value     = local.event
  sensitive = true
}
