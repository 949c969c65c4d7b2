"""Who is in charge of a run: the lock, the way in, the supervisor, and what nobody controls."""
