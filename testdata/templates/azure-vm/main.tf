# A workspace on an Azure virtual machine. Network, resource group and a data disk for the
# home directory stay; the machine exists only while the workspace is started.

terraform {
  required_providers {
    coder = {
      source = "coder/coder"
    }
    azurerm = {
      source = "hashicorp/azurerm"
    }
    tls = {
      source = "hashicorp/tls"
    }
  }
}

provider "coder" {}

provider "azurerm" {
  features {}
}

data "coder_workspace" "me" {}
data "coder_workspace_owner" "me" {}

data "coder_parameter" "location" {
  name         = "location"
  display_name = "Location"
  default      = "westeurope"
  mutable      = false

  option {
    name  = "West Europe"
    value = "westeurope"
  }

  option {
    name  = "East US"
    value = "eastus"
  }
}

data "coder_parameter" "size" {
  name         = "size"
  display_name = "Size"
  default      = "Standard_D2s_v5"
  mutable      = true

  option {
    name  = "2 cores, 8 GB"
    value = "Standard_D2s_v5"
  }

  option {
    name  = "4 cores, 16 GB"
    value = "Standard_D4s_v5"
  }
}

data "coder_parameter" "home_gb" {
  name         = "home_gb"
  display_name = "Home disk"
  type         = "number"
  default      = 32
  mutable      = false

  validation {
    min = 8
    max = 1024
  }
}

locals {
  name = "ws-${substr(data.coder_workspace.me.id, 0, 8)}"
  user = "coder"

  # The first data disk; formatted once, mounted at each start.
  cloud_init = <<-EOT
    #cloud-config
    disk_setup:
      /dev/disk/azure/scsi1/lun10:
        table_type: gpt
        layout: true
        overwrite: false
    fs_setup:
      - device: /dev/disk/azure/scsi1/lun10-part1
        filesystem: ext4
        overwrite: false
    mounts:
      - [/dev/disk/azure/scsi1/lun10-part1, /home/${local.user}, ext4, "defaults,nofail"]
    write_files:
      - path: /opt/agent/start
        permissions: "0755"
        encoding: b64
        content: ${base64encode(coder_agent.main.init_script)}
    runcmd:
      - [chown, "${local.user}:${local.user}", "/home/${local.user}"]
      - [sh, -c, "su ${local.user} -c /opt/agent/start &"]
  EOT
}

resource "coder_agent" "main" {
  os   = "linux"
  arch = "amd64"
  auth = "azure-instance-identity"
}

# Azure wants a key on every machine; nobody gets this one.
resource "tls_private_key" "unused" {
  algorithm = "RSA"
  rsa_bits  = 4096
}

resource "azurerm_resource_group" "workspace" {
  name     = local.name
  location = data.coder_parameter.location.value

  tags = {
    owner = data.coder_workspace_owner.me.name
  }
}

resource "azurerm_virtual_network" "workspace" {
  name                = local.name
  resource_group_name = azurerm_resource_group.workspace.name
  location            = azurerm_resource_group.workspace.location
  address_space       = ["10.0.0.0/24"]
}

resource "azurerm_subnet" "workspace" {
  name                 = "internal"
  resource_group_name  = azurerm_resource_group.workspace.name
  virtual_network_name = azurerm_virtual_network.workspace.name
  address_prefixes     = ["10.0.0.0/25"]
}

resource "azurerm_network_interface" "workspace" {
  name                = local.name
  resource_group_name = azurerm_resource_group.workspace.name
  location            = azurerm_resource_group.workspace.location

  ip_configuration {
    name                          = "internal"
    subnet_id                     = azurerm_subnet.workspace.id
    private_ip_address_allocation = "Dynamic"
  }
}

resource "azurerm_managed_disk" "home" {
  name                 = "${local.name}-home"
  resource_group_name  = azurerm_resource_group.workspace.name
  location             = azurerm_resource_group.workspace.location
  storage_account_type = "StandardSSD_LRS"
  create_option        = "Empty"
  disk_size_gb         = data.coder_parameter.home_gb.value
}

resource "azurerm_linux_virtual_machine" "workspace" {
  count = data.coder_workspace.me.start_count

  name                  = local.name
  resource_group_name   = azurerm_resource_group.workspace.name
  location              = azurerm_resource_group.workspace.location
  size                  = data.coder_parameter.size.value
  network_interface_ids = [azurerm_network_interface.workspace.id]
  admin_username        = local.user
  custom_data           = base64encode(local.cloud_init)

  admin_ssh_key {
    username   = local.user
    public_key = tls_private_key.unused.public_key_openssh
  }

  os_disk {
    caching              = "ReadWrite"
    storage_account_type = "StandardSSD_LRS"
  }

  source_image_reference {
    publisher = "Canonical"
    offer     = "ubuntu-24_04-lts"
    sku       = "server"
    version   = "latest"
  }
}

resource "azurerm_virtual_machine_data_disk_attachment" "home" {
  count = data.coder_workspace.me.start_count

  managed_disk_id    = azurerm_managed_disk.home.id
  virtual_machine_id = azurerm_linux_virtual_machine.workspace[0].id
  lun                = 10
  caching            = "ReadWrite"
}

resource "coder_metadata" "machine" {
  count       = data.coder_workspace.me.start_count
  resource_id = azurerm_linux_virtual_machine.workspace[0].id

  item {
    key   = "size"
    value = data.coder_parameter.size.value
  }
}
