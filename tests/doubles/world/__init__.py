"""A cloud that nobody runs: machines, keys, firewalls and volumes that cost money, in the manners of more than one vendor.

`core.py` is the account and its bill, `app.py` answers HTTP, and each further file speaks one vendor's API over it. A test
steers it by `control.py`. Behind a machine stands a real one where that is asked for (tests/doubles/hosting/machines.py).
"""
