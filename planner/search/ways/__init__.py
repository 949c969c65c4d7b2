"""The ways to do one job, and which of them a kind of machine can hold."""
