"""A transformer block on the tape: its attention, its feed-forward part, and what a family has in their place."""
