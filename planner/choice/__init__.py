"""What makes one plan the better one, which plans nothing beats, and what may be rented at all."""
