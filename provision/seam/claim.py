"""What finds a run at its provider, and how much of what is found there may be ended."""

from __future__ import annotations

from pathlib import Path

import msgspec

from provision.seam.resource import Resource


class Own(msgspec.Struct, frozen=True, kw_only=True):
    """Of all that carries a run's tag, what one home has ordered: the most that it may end once another machine has the run."""

    installation: str  # of that home
    ids: frozenset[str] = frozenset()  # what its order is known to have brought
    theirs: frozenset[str] = frozenset()  # by id, what the other machine has in its books, whoever ordered it

    def has(self, resource: Resource) -> bool:
        """By its tag; what carries no home's is known by its id alone. Where ids are names, one may have been given twice."""
        by_tag = resource.installation == self.installation
        by_id = resource.installation is None and resource.id in self.ids
        return (by_tag or by_id) and resource.id not in self.theirs


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What is enough to find a run at its provider, and to end it."""

    run_id: str
    provider: str = ""  # who rented it out
    region: str = ""  # where the box is or will be; empty = not known any more
    folder: Path  # the run directory at home; keys and engine state live below it
    opened_in: Path | None = None  # the same where the run was opened; another one where it was taken over from there
    user_at_host: str | None = None  # for a host that exists
    host_key: str | None = None  # of that host, as the user pinned it ("ssh-ed25519 AAAA…" or "SHA256:…")
    volumes: frozenset[str] | None = (
        None  # by id, those of its own that stay: a further one is blank; None = whichever there are
    )
    filled: frozenset[str] | None = (
        None  # by id, those of earlier attempts, where the last one has put something on one as well
    )
    own: Own | None = None  # the part of it that is to end; None = all of it
    account: str | None = None  # whose it was rented in, as `Provisioner.account` named it then; None = not known
    known: frozenset[str] = frozenset()  # by id, what is known to have been there, and that nobody has seen gone
    gone_by_s: float | None = None  # wall clock: by then its provider has surely ended its box; None = it may bill for ever
