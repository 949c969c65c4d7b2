"""What rings for a machine of ours that bills and whose run no ledger here knows: nobody else tells anybody of it.

A run's own targets are lost with its ledger, so those are told that this home's own configuration names: the alerts of the
organisation's policy.toml and of the user's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from provision.account.ledger import Ledger
from provision.account.upkeep import is_billed, spent, spent_together
from provision.charge.ownerless.orphans import Orphans
from provision.charge.rings.bell import usable
from provision.errors import BadInput, Exit
from provision.home.places import Places
from provision.prepare.limits.policy import read_policies
from provision.seam import Resource
from provision.watch.alerts import Alert, Post
from provision.words import Note

Stray = tuple[str, Resource]  # who has it, and what it is
NO_NAME: Final = "unknown"  # of a run that its tag does not name


def ring_for_strays(strays: Iterable[Stray], found: Orphans, *, places: Places, note: Note) -> None:
    """One alert a run and provider, for what has a bill of its own. Waits until everybody has heard it; whatever is wrong with
    an alert, or with who is to hear it, is told and no more.
    """
    known = Ledger(places.ledger).runs()
    alone: dict[tuple[str, str], list[Resource]] = {}
    for provider, each in strays:
        if is_billed(each) and each.run_id not in known:
            alone.setdefault((provider, each.run_id or NO_NAME), []).append(each)
    if not alone:
        return None
    try:
        targets = [target for policy in read_policies(places) for target in policy.alerts]
    except BadInput as error:
        return note(f"Nobody was told of what still bills: {error}")
    post = Post(usable(targets, note), told=note)
    try:
        for (provider, _), left in alone.items():
            post.send(_alert(provider, left, found))
    except Exception as error:  # noqa: BLE001 - what still bills is ended whoever heard of it
        note(f"Not everybody was told of what still bills: {error!r}")
    post.close()
    return None


def _alert(provider: str, left: list[Resource], found: Orphans) -> Alert:
    """By its tags and its provider's word, which is all that there is."""
    first = left[0]
    names_run = first.names_run
    whose = f"run {first.run_id}" if names_run else "a run that its tag does not name"
    so_far = spent_together(spent(each, found.rule(provider, each), now_s=found.seen_at_s) for each in left)
    return Alert(
        kind="still_bills",
        run_id=first.run_id or NO_NAME,
        at_s=found.seen_at_s,
        text=f"{', '.join(each.words for each in left)} of {whose} may still bill at {provider}, and no ledger here knows it.",
        provider=provider,
        region=first.region,
        spent_usd=None if so_far is None else so_far.usd,
        deadline_at_s=first.deadline_at_s,
        exit_code=int(Exit.STILL_BILLS),
        command=f"rentune down --orphans {first.run_id}" if names_run else None,
    )
