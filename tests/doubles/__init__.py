"""Stand-ins for what no test may reach or wait for, each a small real program: a long line, a cloud and its machines."""
