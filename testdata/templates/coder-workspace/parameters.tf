# One parameter of each type, and one for each rule that can be put on a parameter.

# string with options; fixed once the workspace exists.
data "coder_parameter" "region" {
  name         = "region"
  display_name = "Region"
  description  = "Where the machine runs. It cannot be moved later."
  type         = "string"
  form_type    = "dropdown"
  icon         = "/emojis/1f30d.png"
  default      = "eu"
  mutable      = false
  order        = 1

  option {
    name        = "Europe"
    description = "Frankfurt"
    value       = "eu"
    icon        = "/emojis/1f1ea-1f1fa.png"
  }

  option {
    name        = "United States"
    description = "Oregon"
    value       = "us"
    icon        = "/emojis/1f1fa-1f1f8.png"
  }
}

# number with options.
data "coder_parameter" "cpu" {
  name         = "cpu"
  display_name = "Cores"
  description  = "Takes effect at the next start."
  type         = "number"
  form_type    = "radio"
  icon         = "/icon/memory.svg"
  default      = 2
  mutable      = true
  order        = 2

  option {
    name  = "2 cores"
    value = 2
  }

  option {
    name  = "4 cores"
    value = 4
  }

  option {
    name  = "8 cores"
    value = 8
  }
}

# number with bounds that only grows.
data "coder_parameter" "disk_gb" {
  name         = "disk_gb"
  display_name = "Home disk"
  description  = "Size in GB. A disk can grow, not shrink."
  type         = "number"
  form_type    = "slider"
  icon         = "/emojis/1f4be.png"
  default      = 20
  mutable      = true
  order        = 3

  validation {
    min       = 10
    max       = 200
    monotonic = "increasing"
    error     = "The disk holds {min} to {max} GB and cannot shrink; {value} is not possible."
  }
}

# string with a pattern and the author's own words when it does not match.
data "coder_parameter" "project" {
  name         = "project"
  display_name = "Project"
  description  = "Directory of the project under the home directory."
  type         = "string"
  default      = "project"
  mutable      = true
  order        = 4

  validation {
    regex = "^[a-z][a-z0-9-]{1,30}$"
    error = "A project name has 2 to 31 small letters, digits and dashes and begins with a letter."
  }
}

# list(string) with options.
data "coder_parameter" "tools" {
  name         = "tools"
  display_name = "Tools"
  description  = "Installed when the workspace starts."
  type         = "list(string)"
  form_type    = "multi-select"
  default      = jsonencode(["git"])
  mutable      = true
  order        = 5

  option {
    name  = "Git"
    value = "git"
  }

  option {
    name  = "Go"
    value = "go"
  }

  option {
    name  = "Rust"
    value = "rust"
  }
}

# bool.
data "coder_parameter" "database" {
  name         = "database"
  display_name = "Database"
  description  = "A second machine with PostgreSQL and an agent of its own."
  type         = "bool"
  form_type    = "switch"
  default      = true
  mutable      = true
  order        = 6
}

# bool that holds for one build only.
data "coder_parameter" "reset_cache" {
  name         = "reset_cache"
  display_name = "Clear the cache"
  description  = "For this build only."
  type         = "bool"
  form_type    = "checkbox"
  default      = false
  mutable      = true
  ephemeral    = true
  order        = 7
}

# free text.
data "coder_parameter" "notes" {
  name         = "notes"
  display_name = "Notes"
  description  = "Whatever you want to remember about this workspace."
  type         = "string"
  form_type    = "textarea"
  default      = ""
  mutable      = true
  order        = 8
}
