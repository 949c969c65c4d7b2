"""A run's state in object storage (`--state`): its book, its sealed papers, who holds it, and its result."""
