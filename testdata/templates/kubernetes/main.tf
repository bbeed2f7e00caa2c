# A workspace as a pod of a Deployment with a volume claim for the home directory.

terraform {
  required_providers {
    coder = {
      source = "coder/coder"
    }
    kubernetes = {
      source = "hashicorp/kubernetes"
    }
  }
}

provider "coder" {}

provider "kubernetes" {
  config_path = var.kubeconfig != "" ? var.kubeconfig : null
}

variable "kubeconfig" {
  description = "Path of a kubeconfig; empty inside the cluster, where the pod's service account is used."
  type        = string
  default     = ""
}

variable "namespace" {
  description = "Namespace of the workspaces; it must exist."
  type        = string
  default     = "workspaces"
}

variable "image" {
  description = "Image of the pod."
  type        = string
  default     = "codercom/enterprise-base:ubuntu"
}

data "coder_workspace" "me" {}
data "coder_workspace_owner" "me" {}

data "coder_parameter" "cores" {
  name         = "cores"
  display_name = "Cores"
  type         = "number"
  default      = 2
  mutable      = true

  validation {
    min = 1
    max = 16
  }
}

data "coder_parameter" "home_gb" {
  name         = "home_gb"
  display_name = "Home volume"
  description  = "Size in GB; fixed, because not every storage class can grow a volume."
  type         = "number"
  default      = 10
  mutable      = false

  validation {
    min = 1
    max = 500
  }
}

locals {
  name = "workspace-${data.coder_workspace.me.id}"

  labels = {
    "app.kubernetes.io/name"     = "workspace"
    "app.kubernetes.io/instance" = local.name
    "example.com/owner"          = data.coder_workspace_owner.me.name
  }
}

resource "coder_agent" "main" {
  os   = "linux"
  arch = "amd64"
}

resource "kubernetes_persistent_volume_claim" "home" {
  wait_until_bound = false

  metadata {
    name      = "${local.name}-home"
    namespace = var.namespace
    labels    = local.labels
  }

  spec {
    access_modes = ["ReadWriteOnce"]

    resources {
      requests = {
        storage = "${data.coder_parameter.home_gb.value}Gi"
      }
    }
  }
}

resource "kubernetes_deployment" "workspace" {
  count            = data.coder_workspace.me.start_count
  wait_for_rollout = false

  metadata {
    name      = local.name
    namespace = var.namespace
    labels    = local.labels
  }

  spec {
    replicas = 1

    strategy {
      type = "Recreate"
    }

    selector {
      match_labels = local.labels
    }

    template {
      metadata {
        labels = local.labels
      }

      spec {
        security_context {
          run_as_user     = 1000
          fs_group        = 1000
          run_as_non_root = true
        }

        container {
          name    = "workspace"
          image   = var.image
          command = ["sh", "-c", coder_agent.main.init_script]

          env {
            name  = "CODER_AGENT_TOKEN"
            value = coder_agent.main.token
          }

          resources {
            requests = {
              cpu    = "250m"
              memory = "512Mi"
            }

            limits = {
              cpu    = data.coder_parameter.cores.value
              memory = "${2 * tonumber(data.coder_parameter.cores.value)}Gi"
            }
          }

          volume_mount {
            name       = "home"
            mount_path = "/home/coder"
          }
        }

        volume {
          name = "home"

          persistent_volume_claim {
            claim_name = kubernetes_persistent_volume_claim.home.metadata[0].name
          }
        }
      }
    }
  }
}
