"""An order at a cloud: made of an offer, looked through before it is given, and what a refusal of it means."""
