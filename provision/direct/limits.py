"""A limit on the local box's RAM, where cgroups allow one: a job that takes too much ends, and the machine does not.

Both trees are met in practice: memory controllers of their own (v1), and the unified tree (v2), where a group with
processes in it can't have limited children, so that a sibling of ours is tried as well. Where neither may be written,
the box runs without a limit.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

RAM_SHARE = 0.95  # assumed: the rest keeps controller and shell alive; a test holds planner.estimators.host to it
MOUNT = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")  # lines "id:controllers:/path"; v2 is the one without controllers
LIMIT_FILES = {"memory": "memory.limit_in_bytes", "": "memory.max"}


def limit_name(box_folder: Path) -> str:
    """Of the group of one box, whatever home it belongs to."""
    return f"rentune-{hashlib.sha256(str(box_folder).encode()).hexdigest()[:16]}"


def limit_ram(name: str, ram_gib: float) -> Path | None:
    """A group that holds its members to a share of `ram_gib`; None where none can be made."""
    for group, limit_file in candidates(name):
        with contextlib.suppress(OSError):
            group.mkdir()
            try:
                (group / limit_file).write_text(str(round(ram_gib * RAM_SHARE * 2**30)))
            except OSError:
                group.rmdir()
                raise
            return group
    return None


def join(group: Path) -> None:
    """Move this process in; its children will follow. A group that does not admit it is done without."""
    with contextlib.suppress(OSError):
        (group / "cgroup.procs").write_text("0")


def remove_limit(name: str) -> None:
    """Remove the group, which must be empty. Safe when there is none."""
    for group, _ in candidates(name):
        with contextlib.suppress(OSError):
            group.rmdir()


def candidates(name: str) -> Iterator[tuple[Path, str]]:
    """Where the group could be: below our own and beside it, with the name of the file that limits it."""
    if not OWN_GROUPS.exists():
        return
    for line in OWN_GROUPS.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        tree = MOUNT / controllers
        if controllers in LIMIT_FILES and (tree / "cgroup.procs").exists():
            own = tree / path.lstrip("/")
            for parent in dict.fromkeys((own, tree if own == tree else own.parent)):
                yield parent / name, LIMIT_FILES[controllers]
