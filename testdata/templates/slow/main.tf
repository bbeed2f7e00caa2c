# Resources that take their time and talk while they do: for cancels, drains and kills in
# the middle of an apply. With a marks directory each one also leaves a file outside the
# state, as a cloud would keep a machine: what is there and what the state knows can then
# be compared.

terraform {
  required_version = ">= 1.4.0"
}

variable "resources" {
  description = "How many; the engine makes ten at a time."
  type        = number
  default     = 3
}

variable "seconds" {
  description = "How long each one takes. It prints a line every 300 ms."
  type        = number
  default     = 3
}

variable "marks" {
  description = "Directory that gets one file per resource once it exists; empty for none."
  type        = string
  default     = ""
}

resource "terraform_data" "slow" {
  count = var.resources

  input = {
    mark    = var.marks == "" ? "" : "${var.marks}/slow-${count.index}"
    seconds = var.seconds
  }

  provisioner "local-exec" {
    command = <<-EOT
      ticks=$(( $SECONDS_EACH * 10 / 3 ))
      tick=0
      while [ $tick -lt $ticks ]; do
        tick=$(( $tick + 1 ))
        echo "slow $INDEX: tick $tick of $ticks"
        sleep 0.3
      done
      if [ -n "$MARK" ]; then : > "$MARK"; fi
    EOT

    environment = {
      INDEX        = count.index
      SECONDS_EACH = var.seconds
      MARK         = self.input.mark
    }
  }

  provisioner "local-exec" {
    when    = destroy
    command = "if [ -n \"$MARK\" ]; then rm -f \"$MARK\"; fi"

    environment = {
      MARK = self.input.mark
    }
  }
}
