"""The terminal that rich draws on: its own control characters go out, those in the text that it draws do not.

rich is imported here, so this file is imported late.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from provision.output import drawn_on, shown


def canvas(*, stderr: bool = False, width: int | None = None) -> Console:
    """A console on standard output, or error; `width`: None = as wide as it is whenever something is drawn."""
    return _Canvas(file=drawn_on(sys.stderr if stderr else sys.stdout), width=width, highlight=False, soft_wrap=False)


class _Canvas(Console):
    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=shown(segment.text))
