resource "terraform_data" "made" {
  count = 3
  input = count.index
}

resource "terraform_data" "fails" {
  depends_on = [terraform_data.made]

  provisioner "local-exec" {
    command = "echo 'quota exceeded for machines' >&2; exit 7"
  }
}

resource "terraform_data" "never" {
  count      = 2
  depends_on = [terraform_data.fails]
}
