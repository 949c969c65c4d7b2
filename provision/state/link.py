"""Where a run's state lies beside this home, as its directory has it: whoever takes charge of the run here goes there first."""

from __future__ import annotations

import msgspec

from provision.errors import Refused
from provision.home.places import RunFolder
from provision.home.whole import write_whole
from remote.contract import decode


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """`key`: what the run's papers are sealed with. `papers`: those in the store that this directory has, or has sent."""

    url: str
    key: bytes
    papers: str | None = None


def read_link(folder: RunFolder) -> Link | None:
    """None where the run's state lies here alone. Raises Refused where the file is damaged: nobody knows then."""
    try:
        return decode(folder.state.read_bytes(), Link)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError):
        raise Refused(
            f"{folder.state} is damaged: whether another machine has the run can't be asked.",
            hint=f"rentune resume {folder.root.name} --state URL mends it; rentune down {folder.root.name} ends the run.",
        ) from None


def is_damaged(folder: RunFolder) -> bool:
    """Whether the file is there and says nothing."""
    try:
        read_link(folder)
    except Refused:
        return True
    return False


def write_link(folder: RunFolder, link: Link) -> None:
    """Whole, and for its owner alone. Raises OSError."""
    folder.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(folder.state, msgspec.json.encode(link))
