"""click's options and commands whose texts are written as they are shown.

click straightens every text with `inspect`, which takes 38 million instructions to import, a fifth of `rentune --help`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class PlainOption(click.Option):
    """An option whose help is one line. `also`: other names that it answers to, which help and complaints don't repeat."""

    def __init__(self, *args: Any, help: str | None = None, also: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.help = help
        self.also = tuple(also)

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Under all its names."""
        shown, self.opts = self.opts, [*self.opts, *self.also]
        try:
            super().add_to_parser(parser, ctx)
        finally:
            self.opts = shown


class Pairs(PlainOption):
    """An option that may be repeated, each time with another name before its "=": two values of one name contradict."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings | {"multiple": True})

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """(name, value) pairs, each once. Raises UsageError for a name of two values."""
        values: tuple[tuple[str, str], ...] = super().process_value(ctx, value) or ()
        pairs = dict(values)
        if other := next(((name, said) for name, said in values if pairs[name] != said), None):
            name, said = other
            raise click.UsageError(
                f"{self.opts[0]} says {name} twice, {name}={said} and {name}={pairs[name]}; leave one of them out", ctx
            )
        return tuple(pairs.items())


class OneOf(click.Choice[str]):
    """One of some words; of another one it is said which was meant."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:  # noqa: ARG002 - click's own
        """In place of click's, which lists them all."""
        from planner.nearest import nearest

        return f'there is no "{value}"; {nearest(str(value), self.choices)}'


class PlainCommand(click.Command):
    """A command whose help indents nothing."""

    def format_help_text(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Paragraphs, each wrapped."""
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text("\n".join(line.strip() for line in (self.help or "").splitlines()))


def with_dashes(name: str) -> str:
    """An option's name as ours are written: trainers write --learning_rate."""
    return name.replace("_", "-")


def help_option(*flags: str) -> Callable[[F], F]:
    """Decorator: the option that shows the help, in place of the one that click adds by itself."""
    return click.help_option(*flags, cls=PlainOption)
