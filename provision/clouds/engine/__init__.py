"""The Pulumi engine: where it is, how it is built from its published Go modules, the process that runs it, a run's stack
in it, and what it leaves behind. `go.mod` and `go.sum` pin it, `build.py` makes it.
"""
