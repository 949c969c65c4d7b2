"""The papers of a run, read back: what `opening` wrote before the first dollar, for whoever drives, resumes or ends it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from planner.asking.request import RequestError
from planner.plan import Plan
from planner.saved import read_plan
from provision.account.lines import UNREADABLE
from provision.account.runs import RunState
from provision.home.places import RunFolder
from provision.prepare.inputs import BaseModel
from provision.providers import ends_itself
from provision.seam import DEADLINE_GRACE_S, Box, Claim, Launch
from remote.contract import decode


def lost_papers(folder: RunFolder) -> tuple[Path, ...]:
    """Which of the files that a run can't go on without are missing or can't be read."""
    readers: dict[Path, Callable[[], object]] = {
        folder.plan: lambda: read_plan(folder.plan.read_text(), name=str(folder.plan)),
        folder.base: lambda: read_base(folder),
        folder.launch: lambda: read_launch(folder),
    }
    return tuple(paper for paper, read in readers.items() if not _can(read))


def _can(read: Callable[[], object]) -> bool:
    try:
        read()
    except (OSError, RequestError, *UNREADABLE):
        return False
    return True


def read_claim(folder: RunFolder, state: RunState) -> Claim:
    """Where the run's box is or was: as the ledger has it, and of a host of the user's also how it was launched."""
    rental, box = state.rental, state.box
    of_user = box if box is not None and not box.ours else None
    user_at_host, host_key = (_address(of_user), of_user.host_key) if of_user else (None, None)
    with suppress(OSError, *UNREADABLE):
        launch = read_launch(folder)
        user_at_host, host_key = launch.user_at_host, launch.host_key or host_key
    return Claim(
        run_id=state.run_id,
        provider=state.provider,
        region=rental.offer.region if rental else state.opened.region,
        folder=folder.root,
        opened_in=Path(state.opened.folder),
        user_at_host=user_at_host,
        host_key=host_key,
        account=rental.account if rental else None,
        known=frozenset(each.id for each in box.resources) if box is not None and state.may_bill else frozenset(),
        gone_by_s=state.deadline_at_s + DEADLINE_GRACE_S if ends_itself(state.provider) else None,
    )


def read_launch(folder: RunFolder) -> Launch:
    """What the provisioner was to be told first. Raises OSError, or what the decoder says of damaged bytes.

    Its folder is the one that it lies in: on another machine that has another name.
    """
    launch = msgspec.json.decode(folder.launch.read_bytes(), type=Launch, dec_hook=_path)
    return msgspec.structs.replace(launch, folder=folder.root)


def read_alternatives(folder: RunFolder) -> tuple[Plan, ...]:
    """What may be rented instead; nothing where that was lost."""
    with suppress(OSError, msgspec.DecodeError):
        return decode(folder.alternatives.read_bytes(), tuple[Plan, ...])
    return ()


def _address(box: Box) -> str:
    host = f"[{box.host}]" if ":" in box.host else box.host
    return f"{box.user}@{host}:{box.port}"


def _path(kind: type, text: str) -> Path:
    """The one field of a Launch that JSON has no type for."""
    if kind is not Path:
        raise NotImplementedError(kind)
    return Path(text)


def read_base(folder: RunFolder) -> BaseModel:
    return decode(folder.base.read_bytes(), BaseModel)
