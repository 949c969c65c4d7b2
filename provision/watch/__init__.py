"""A run as it is seen from outside while it goes."""
