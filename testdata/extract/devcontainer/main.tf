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

resource "coder_agent" "main" {
  os   = "linux"
  arch = "amd64"
}

resource "coder_devcontainer" "repo" {
  agent_id         = coder_agent.main.id
  workspace_folder = "/work"
  config_path      = "/work/.devcontainer/devcontainer.json"
}

resource "coder_app" "inside" {
  agent_id = coder_devcontainer.repo.subagent_id
  slug     = "inside"
  url      = "http://localhost:2"
}

resource "coder_script" "inside" {
  agent_id     = coder_devcontainer.repo.subagent_id
  display_name = "Inside"
  script       = "true"
  run_on_start = true
}

resource "coder_env" "inside" {
  agent_id = coder_devcontainer.repo.subagent_id
  name     = "WHERE"
  value    = "inside"
}

resource "null_resource" "machine" {
  depends_on = [coder_agent.main]
}
