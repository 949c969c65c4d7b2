"""What is raised for a file that can't be read."""

from __future__ import annotations


class UnreadableData(Exception):
    """The file as a whole can't be read; the message says why and what to do."""
