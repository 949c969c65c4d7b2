"""One module per command: what it is asked, the rooms that do it, and what it shows."""
