resource "terraform_data" "made" {
  input = "before"
}

# The parent of a local-exec shell is the engine.
resource "terraform_data" "kills" {
  depends_on = [terraform_data.made]

  provisioner "local-exec" {
    command = "echo 'the engine gets SIGKILL now'; kill -KILL $PPID"
  }
}
