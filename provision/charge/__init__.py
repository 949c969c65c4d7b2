"""Who is in charge of a run: the lock, the way in, the phases that are timed, and what nobody controls."""
