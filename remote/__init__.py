"""The trainer: what runs on the rented box. A sealed package, shipped whole; `python -m remote job.json` is its one door."""
