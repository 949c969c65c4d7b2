"""A receipt made readable: in the terminal, and as one HTML file that needs nothing else."""
