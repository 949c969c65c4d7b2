"""What a rented machine is told to do at its first boot, before anybody has reached it. Pure text."""
