"""How much RAM this process may still take: what the machine has, and what the control groups around it allow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

MOUNT: Final = Path("/sys/fs/cgroup")
OWN_GROUPS: Final = Path("/proc/self/cgroup")  # lines "id:controllers:/path"; version 2 is the one without controllers

# Of both versions: the folder below the mount; files of the limit and of what is used; in memory.stat, what is used and given
# back when it is wanted.
VERSIONS: Final = {
    "": ("", "memory.max", "memory.current", "inactive_file"),
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def available_ram_bytes(*, mount: Path = MOUNT, own_groups: Path = OWN_GROUPS) -> int:
    """The least of what the machine has available and what is left in each group that this process is in."""
    import psutil

    return min([int(psutil.virtual_memory().available), *_left_in_groups(mount, own_groups)])


def own_ram_bytes() -> int:
    """What this process holds."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def _left_in_groups(mount: Path, own_groups: Path) -> Iterator[int]:
    """In a container the path may be of the host; then its own group is the mount itself."""
    lines = own_groups.read_text().splitlines() if own_groups.is_file() else []
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        for controller, (below, limit, used, given_back) in VERSIONS.items():
            if controller not in controllers.split(",") or (not controller and controllers):
                continue
            top = mount / below
            here = top / path.lstrip("/")
            for group in (here, *here.parents):
                if group == top or top in group.parents:
                    yield from _left(group / limit, group / used, group / "memory.stat", given_back)


def _left(limit: Path, used: Path, stat: Path, given_back: str) -> Iterator[int]:
    """Nothing of a group that has no limit."""
    try:
        limit_bytes, used_bytes = int(limit.read_text()), int(used.read_text())
        counted = dict(line.split() for line in stat.read_text().splitlines())
    except (OSError, ValueError):  # "max", or no such group
        return
    yield max(0, limit_bytes - used_bytes + int(counted.get(given_back, 0)))
