"""The Pulumi engine, built from its published Go modules: `go.mod` and `go.sum` pin it, `build.py` makes it."""
