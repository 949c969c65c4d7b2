"""What has no living owner: runs that nobody controls, and resources with our tag that are in no ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from provision.account.ledger import RunState
from provision.charge.controller import is_orphan
from provision.provisioner import Answer, Owned, Resource


class Orphans(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a look. `unseen` names the providers that could not be asked, each with its reason."""

    runs: tuple[RunState, ...]  # opened, not ended, no living controller
    strays: tuple[tuple[str, Resource], ...]  # provider, resource: of a run that is unknown here or counts as ended
    unseen: dict[str, str]

    @property
    def nothing(self) -> bool:
        return not self.runs and not self.strays and not self.unseen


def find_orphans(runs: Mapping[str, RunState], owned: Mapping[str, Owned]) -> Orphans:
    """Compare the ledger with what each provider lists."""
    return Orphans(
        runs=tuple(state for state in runs.values() if is_orphan(state)),
        strays=tuple(
            (provider, resource)
            for provider, found in owned.items()
            for resource in found.resources
            if _is_stray(resource, runs)
        ),
        unseen={
            provider: found.message or "could not be asked"
            for provider, found in owned.items()
            if found.complete is not Answer.YES
        },
    )


def stray_run_ids(orphans: Orphans) -> dict[str, str]:
    """Run id → provider of every stray that names its run."""
    return {resource.run_id: provider for provider, resource in orphans.strays if resource.run_id is not None}


def providers_to_ask(runs: Iterable[RunState]) -> tuple[str, ...]:
    """The local machine always, and whoever a run of this ledger was opened at. A host is asked through its run."""
    return tuple(dict.fromkeys(("local", *(state.opened.provider for state in runs))))


def _is_stray(resource: Resource, runs: Mapping[str, RunState]) -> bool:
    if resource.run_id is None:
        return True
    state = runs.get(resource.run_id)
    return state is None or state.ended
