"""Whose account at a cloud a run was rented in, beside the one that is asked now: another lists nothing of a box that bills.

An account is named by the cloud's own id of it. Where the API tells none, by a mark of the key, a short hash: the same key is
the same account, another one may be of it as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from provision.clouds.programs import CLOUDS
from provision.errors import ProvisionError
from provision.provisioner import Answer, Claim, Owned

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


def is_id(account: str | None) -> bool:
    """Whether it names an account to a person."""
    return account is not None and not account.startswith(MARK)


def same_account(then: str | None, now: str | None) -> Answer:
    """Whether both are one account; another key of what tells no id may be of the same."""
    if then is not None and then == now:
        return Answer.YES
    return Answer.NO if is_id(then) and is_id(now) else Answer.UNKNOWN


def other_account_words(provider: str, run_id: str, then: str | None, now: str | None, *, command: str = "down") -> str | None:
    """That a run's box is in another account than these credentials are of, and what to do; None where that is not known."""
    if same_account(then, now) is not Answer.NO:
        return None
    row = CLOUDS[provider]
    return (
        f"Run {run_id} was rented in the {row.account_is} {then} of {row.title}, and the credentials here are of {now}, which "
        f"lists nothing of it: use those of {then} ({', '.join(row.account_variables)}), then `rentune {command} {run_id}`."
    )


def unproven_words(provider: str, run_id: str) -> str:
    """That nothing is listed of what is known to have been there, in an account that is not known to be the run's."""
    row = CLOUDS[provider]
    return (
        f"{row.title} lists nothing of run {run_id}, and whether the credentials here are of its {row.account_is} is not "
        f"known: use those that it was rented with ({', '.join(row.account_variables)}), then `rentune down {run_id}`."
    )


def in_doubt(claim: Claim, now: str | None, listed: Owned, *, told_s: float) -> bool:
    """Whether a list that shows nothing may be another account's.

    Not where this is the run's, nor once its cloud has surely ended its box (`told_s`: now, by the cloud's clock).
    """
    if same_account(claim.account, now) is Answer.YES or listed.resources or listed.kept:
        return False
    return claim.gone_by_s is None or told_s < claim.gone_by_s
