"""What a command says of what it could not see: lines of the ledger, providers that did not answer."""

from __future__ import annotations

from collections.abc import Mapping

from provision.account.ledger import Ledger, damage
from provision.envelope import Problem


def ledger_problems(ledger: Ledger) -> tuple[Problem, ...]:
    """That lines can't be read, for a command that shows what the others say."""
    sentence = damage(ledger)
    return (Problem(message=f"{sentence[0].upper()}{sentence[1:]}.", hint="rentune ls --orphans"),) if sentence else ()


def unseen_problems(unseen: Mapping[str, str]) -> tuple[Problem, ...]:
    """Who could not be asked what is there, each with its reason."""
    return tuple(Problem(message=f"{provider}: {reason}", hint="rentune doctor") for provider, reason in unseen.items())
