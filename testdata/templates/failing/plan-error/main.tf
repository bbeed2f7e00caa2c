variable "cores" {
  description = "More than the region has."
  type        = number
  default     = 64
}

resource "terraform_data" "machine" {
  input = var.cores

  lifecycle {
    precondition {
      condition     = var.cores <= 16
      error_message = "This region has machines of up to 16 cores."
    }
  }
}
