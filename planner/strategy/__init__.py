"""How a job is trained, as far as bytes and seconds know it: its numbers, its stack, its cut among ranks, its words."""
