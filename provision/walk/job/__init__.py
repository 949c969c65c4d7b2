"""The job on a box that answers: started, followed, waited for in its silence, and what it has learned brought home."""
