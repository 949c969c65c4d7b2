"""What a run is judged by and what it leaves behind: losses, samples, files, and the proof that they reload."""
