"""Whom a run tells of itself, and when: while it is driven, while nobody drives it, and where no ledger knows of it."""
