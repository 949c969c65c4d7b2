"""What is asked: a request in options or a job file, a case of the estimate contract, and whether it makes sense."""
