"""The base model: fetched, loaded exactly as the Strategy says, and with a head where classes are told apart."""
