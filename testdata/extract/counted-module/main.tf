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

data "coder_workspace" "me" {}

module "machine" {
  source = "./machine"
  count  = data.coder_workspace.me.start_count
  label  = "west"
}

module "tools" {
  source   = "./tools"
  for_each = toset(["a.b[c]"])
  agent_id = module.machine[0].agent_id
}

resource "coder_metadata" "machine" {
  count       = data.coder_workspace.me.start_count
  resource_id = module.machine[count.index].machine_id
  daily_cost  = 4
}
