"""What an account must allow at a cloud, as `rentune doctor --permissions CLOUD` prints it: the pages of docs/permissions.

A wheel carries them beside this file, a checkout where they are written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
PLACES: Final = (HERE / "permission_pages", HERE.parent.parent / "docs" / "permissions")


def permission_pages(cloud: str, places: tuple[Path, ...] = PLACES) -> tuple[Path, ...]:
    """The files of a cloud, what is read before what is copied; none of one that needs no permission."""
    folder = next((place for place in places if place.is_dir()), None)
    if folder is None:
        return ()
    return tuple(sorted(folder.glob(f"{cloud}.*"), key=lambda page: (page.suffix != ".md", page.name)))


def how_to_see(cloud: str) -> str:
    """What to type to see them."""
    return f"rentune doctor --permissions {cloud}"
