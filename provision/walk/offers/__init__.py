"""Which offer is tried next, and what a policy lets of them be tried."""
