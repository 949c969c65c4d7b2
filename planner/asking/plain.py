"""click's options and commands whose texts are written as they are shown.

click straightens every text with `inspect`, which takes 38 million instructions to import, a fifth of `rentune --help`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class PlainOption(click.Option):
    """An option whose help is one line."""

    def __init__(self, *args: Any, help: str | None = None, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.help = help


class PlainCommand(click.Command):
    """A command whose help indents nothing."""

    def format_help_text(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Paragraphs, each wrapped."""
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text("\n".join(line.strip() for line in (self.help or "").splitlines()))


def help_option(*flags: str) -> Callable[[F], F]:
    """Decorator: the option that shows the help, in place of the one that click adds by itself."""
    return click.help_option(*flags, cls=PlainOption)
