"""What the control group of this process may still take of the RAM: a container's limit is not the machine's."""

from __future__ import annotations

from pathlib import Path
from typing import Final

GROUP: Final = Path("/sys/fs/cgroup")
NO_LIMIT: Final = "max"


def group_available_bytes(group: Path = GROUP) -> int | None:
    """Bytes under the limit of cgroup 2, what only caches files not counted as taken; None where no limit is readable."""
    try:
        limit = (group / "memory.max").read_text().strip()
        if limit == NO_LIMIT:
            return None
        used = int((group / "memory.current").read_text())
        cached = dict(line.split() for line in (group / "memory.stat").read_text().splitlines()).get("inactive_file", "0")
        return int(limit) - used + int(cached)
    except (OSError, ValueError):
        return None
