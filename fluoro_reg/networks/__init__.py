"""What `regressor` and `learned` share: a network's input image, its reference view, its weights file."""
