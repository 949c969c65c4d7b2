"""Ending a run: taken over from whoever is in charge, ended, its books kept true, and what is said where that failed."""
