"""What is refused before anything is counted: what has no closed form, and what excludes each other."""
