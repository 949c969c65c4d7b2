"""A cloud, its boxes, their trainer and the line to them, all in memory and in virtual time: an hour costs a millisecond.

What is the product's own stays the product's own: the walk, the lease, the ledger, the way in which lists are believed
(`Inventory`). What asks for seconds or sockets is made up here: the machines of `tests.doubles.world`, a trainer that works by
the clock, and a shell that knows the few commands that are sent.
"""
