"""What a command that reads the ledger says of lines in it that nobody can read."""

from __future__ import annotations

from provision.account.ledger import Ledger, damage
from provision.envelope import Problem


def ledger_problems(ledger: Ledger) -> tuple[Problem, ...]:
    """That lines can't be read, for a command that shows what the others say."""
    sentence = damage(ledger)
    return (Problem(message=f"{sentence[0].upper()}{sentence[1:]}.", hint="rentune ls --orphans"),) if sentence else ()
