"""What a choice rests on: what makes a plan the better one, what nothing beats, what may be rented, what the field advises."""
