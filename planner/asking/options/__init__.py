"""What `plan` and `run` can be told on a command line: the kinds of value, the table, the Request, and the way back."""
