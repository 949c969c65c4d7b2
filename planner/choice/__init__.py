"""What a choice rests on: what makes one plan the better one, and what the field advises. Tables."""
