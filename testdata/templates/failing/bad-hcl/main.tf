terraform {
  required_version = ">= 1.4.0"
}

resource "terraform_data" "fine" {}

resource "terraform_data" "broken" {{
  input = "the second brace above does not belong there"
}
