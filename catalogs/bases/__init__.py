"""The models that can be tuned: what a person names, its config, and the numbers that formulas need."""
