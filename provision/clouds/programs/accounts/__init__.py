"""How an account of each larger cloud is asked: its API, its limits, and what it declines."""
