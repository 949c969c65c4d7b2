"""What is told beside the ranking: what it rests on, what was turned down and why, and what would help."""
