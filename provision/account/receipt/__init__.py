"""The receipt of a finished run: what it holds, how it is reckoned, and what it teaches the plans after it."""
