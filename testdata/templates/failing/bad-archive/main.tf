resource "terraform_data" "fine" {}
