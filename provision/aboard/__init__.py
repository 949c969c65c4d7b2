"""What happens on the box, whoever rented it: the trainer shipped, its job started, followed and stopped."""
