"""Base and rows, from where they lie into memory."""
