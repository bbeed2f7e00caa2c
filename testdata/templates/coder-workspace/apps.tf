# What the workspace offers: an editor (a module, there while the workspace is started),
# links, a command, variables, scripts, a second machine.

module "editor" {
  count  = data.coder_workspace.me.start_count
  source = "./modules/editor"

  agent_id = coder_agent.main.id
  folder   = "/home/${data.coder_workspace_owner.me.name}/${data.coder_parameter.project.value}"
  port     = var.editor_ports.editor
}

module "database" {
  count  = data.coder_parameter.database.value == "true" ? data.coder_workspace.me.start_count : 0
  source = "./modules/database"

  name = "${data.coder_workspace_owner.me.name}-${data.coder_workspace.me.name}-db"
  arch = var.arch
}

resource "coder_app" "preview" {
  agent_id     = coder_agent.main.id
  slug         = "preview"
  display_name = "Preview"
  icon         = "/emojis/1f441.png"
  url          = "http://localhost:${var.editor_ports.preview}"
  subdomain    = false
  share        = "authenticated"
  open_in      = "tab"
  group        = "Project"
  order        = 2
}

resource "coder_app" "docs" {
  agent_id     = coder_agent.main.id
  slug         = "docs"
  display_name = "Documentation"
  icon         = "/icon/book.svg"
  url          = "https://example.com/docs/${data.coder_parameter.project.value}"
  external     = true
  tooltip      = "How this **project** is built and run."
  order        = 3
}

resource "coder_app" "top" {
  agent_id = coder_agent.main.id
  slug     = "top"
  command  = "top"
  share    = "owner"
  hidden   = true
}

resource "coder_env" "path" {
  agent_id       = coder_agent.main.id
  name           = "PATH"
  value          = "/opt/tools/bin"
  merge_strategy = "prepend"
}

resource "coder_env" "deployment" {
  agent_id = coder_agent.main.id
  name     = "WORKSPACE_URL"
  value    = "${data.coder_workspace.me.access_url}/@${data.coder_workspace_owner.me.name}/${data.coder_workspace.me.name}"
}

resource "coder_script" "tools" {
  agent_id           = coder_agent.main.id
  display_name       = "Install tools"
  icon               = "/emojis/1f6e0.png"
  run_on_start       = true
  start_blocks_login = true
  timeout            = 300
  log_path           = "/tmp/tools.log"
  script             = "for tool in ${join(" ", jsondecode(data.coder_parameter.tools.value))}; do echo installing $tool; done"
}

resource "coder_script" "backup" {
  agent_id     = coder_agent.main.id
  display_name = "Back up"
  cron         = "0 30 2 * * *"
  run_on_stop  = true
  script       = "tar -C $HOME -cf /var/backup/home.tar ."
}

resource "coder_devcontainer" "project" {
  agent_id         = coder_agent.main.id
  workspace_folder = "/home/${data.coder_workspace_owner.me.name}/${data.coder_parameter.project.value}"
  config_path      = ".devcontainer/devcontainer.json"
}
