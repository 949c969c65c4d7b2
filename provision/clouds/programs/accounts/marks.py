"""What an account is known by where its cloud tells no id: a mark of the key, which tells it from others and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from provision.errors import ProvisionError

MARK: Final = "key:"  # before what is no id, but a hash of a key
MARK_DIGITS: Final = 16  # derived: 64 bits tell a person's keys apart; a vendor's key is too long to be guessed from them


def mark_of(key: str) -> str:
    """What tells a key from others, and nothing else of it."""
    return MARK + hashlib.sha256(f"rentune account {key}".encode()).hexdigest()[:MARK_DIGITS]


def id_or_mark(told: Callable[[], str], key: str) -> str:
    """What the cloud tells, else the key's mark: one that is too narrow to ask still tells that it is the same."""
    try:
        return told()
    except (ProvisionError, KeyError, TypeError):
        return mark_of(key)
