"""The machine that the trainer finds itself on: whether it is fit, what its meters show, and when it is taken back."""
