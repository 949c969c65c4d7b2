"""The only room that spends money: rent a box, ship the trainer, bring the adapter home, end what bills, account for it."""

__version__ = "0.1.0"
