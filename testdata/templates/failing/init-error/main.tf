module "absent" {
  source = "./modules/absent"
}
