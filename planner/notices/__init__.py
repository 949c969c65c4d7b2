"""Sentences beside an answer, each by its subject: the `warnings` of a plan or an estimate, and notes of a report."""
