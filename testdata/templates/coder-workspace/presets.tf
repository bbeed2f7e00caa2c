data "coder_workspace_preset" "small" {
  name        = "Small"
  description = "Two cores, no database."
  icon        = "/emojis/1f41c.png"
  default     = true

  parameters = {
    cpu      = "2"
    disk_gb  = "20"
    database = "false"
  }
}

data "coder_workspace_preset" "large" {
  name        = "Large"
  description = "Eight cores in the United States, with a database; some are kept ready on working days."
  icon        = "/emojis/1f418.png"

  parameters = {
    region   = "us"
    cpu      = "8"
    disk_gb  = "100"
    database = "true"
  }

  prebuilds {
    instances = 1

    expiration_policy {
      ttl = 86400
    }

    scheduling {
      timezone = "UTC"

      schedule {
        cron      = "* 8-18 * * 1-5"
        instances = 3
      }
    }
  }
}
