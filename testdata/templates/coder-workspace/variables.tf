variable "image" {
  description = "Image that the machine boots."
  type        = string
  default     = "ubuntu-24.04"
}

variable "arch" {
  description = "Processor architecture of the machine."
  type        = string
  default     = "amd64"

  validation {
    condition     = contains(["amd64", "arm64"], var.arch)
    error_message = "The architecture is amd64 or arm64."
  }
}

variable "registry_token" {
  description = "Reads images from a private registry."
  type        = string
  default     = ""
  sensitive   = true
}

variable "editor_ports" {
  description = "Where the editor and its preview listen."
  type = object({
    editor  = number
    preview = number
  })
  default = {
    editor  = 13337
    preview = 3000
  }
}
