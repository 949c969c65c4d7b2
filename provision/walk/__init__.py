"""The walk of one run: a box is rented, trained in, emptied and ended, and the books are closed. `run.walk` is the way in."""
