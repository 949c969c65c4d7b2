"""What is sold, and what of it a request admits."""
