terraform {
  required_providers {
    coder = {
      source = "coder/coder"
    }
    null = {
      source = "hashicorp/null"
    }
  }
}

resource "coder_agent" "dev" {
  os                     = "linux"
  arch                   = "amd64"
  dir                    = "/home/coder"
  connection_timeout     = 60
  troubleshooting_url    = "https://example.com/help"
  motd_file              = "/etc/motd"
  order                  = 2
  startup_script         = "echo start"
  startup_script_behavior = "blocking"
  shutdown_script        = "echo stop"
  env = {
    EDITOR = "vim"
  }
  display_apps {
    vscode                 = false
    vscode_insiders        = true
    web_terminal           = true
    port_forwarding_helper = false
    ssh_helper             = false
  }
  metadata {
    key          = "load"
    display_name = "Load"
    script       = "uptime"
    interval     = 5
    timeout      = 2
    order        = 7
  }
  resources_monitoring {
    memory {
      enabled   = true
      threshold = 80
    }
    volume {
      path      = "/home"
      enabled   = false
      threshold = 90
    }
  }
}

resource "coder_agent" "build" {
  os   = "windows"
  arch = "arm64"
}

resource "coder_app" "web" {
  agent_id     = coder_agent.dev.id
  slug         = "web"
  display_name = "Web"
  url          = "http://localhost:8080"
  icon         = "/icon/web.svg"
  subdomain    = true
  share        = "authenticated"
  open_in      = "tab"
  order        = 3
  group        = "Tools"
  tooltip      = "The *web*"
  healthcheck {
    url       = "http://localhost:8080/ok"
    interval  = 5
    threshold = 6
  }
}

resource "coder_app" "shell" {
  agent_id = coder_agent.build.id
  slug     = "shell"
  command  = "bash"
  hidden   = true
}

resource "coder_app" "docs" {
  agent_id = coder_agent.build.id
  slug     = "docs"
  url      = "https://example.com"
  external = true
}

resource "coder_script" "nightly" {
  agent_id     = coder_agent.build.id
  display_name = "Nightly"
  icon         = "/icon/moon.svg"
  script       = "echo night"
  cron         = "0 0 3 * * *"
  timeout      = 30
  log_path     = "nightly.log"
}

resource "coder_script" "boot" {
  agent_id           = coder_agent.dev.id
  display_name       = "Boot"
  script             = "echo boot"
  run_on_start       = true
  start_blocks_login = true
}

resource "coder_script" "bye" {
  agent_id     = coder_agent.dev.id
  display_name = "Bye"
  script       = "echo bye"
  run_on_stop  = true
}

resource "coder_env" "path" {
  agent_id       = coder_agent.dev.id
  name           = "PATH"
  value          = "/opt/bin"
  merge_strategy = "append"
}

resource "coder_env" "lang" {
  agent_id = coder_agent.build.id
  name     = "LANG"
  value    = "C"
}

resource "null_resource" "dev" {
  triggers = {
    token = coder_agent.dev.token
  }
}

resource "null_resource" "build" {
  triggers = {
    init = coder_agent.build.init_script
  }
}
