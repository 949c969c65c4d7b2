"""The books: what was opened, what it was to cost, what it did cost, and how it ended."""
