"""The kinds of value that options take: click's types around readers that raise ValueError with a whole sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

from planner.asking.options.plain import OneOf, PlainOption
from planner.asking.quantities import parse_cards, parse_count, parse_gib, parse_hours, parse_lease, parse_usd


class Amount(click.ParamType[Any]):
    """A click type around a reader that raises ValueError with a whole sentence."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The amount in its unit; text that can't be read is a usage error."""
        if not isinstance(value, str):
            return value
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Once(PlainOption):
    """An option with one value. Said again with another value it contradicts itself, and is refused: neither is meant."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings | {"multiple": True})

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """The one value, however often it was said; None where it was not."""
        values: tuple[Any, ...] = super().process_value(ctx, value)
        if any(other != values[0] for other in values[1:]):
            flags = "/".join((*self.opts, *self.secondary_opts))
            raise click.UsageError(f"{flags} was said twice, with different values; leave one of them out", ctx)
        return values[0] if values else None


def parse_words(text: str) -> str | list[str]:
    """Several names between commas are a list; a single word such as "all-linear" stays a word."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    return words if len(words) > 1 else text.strip()


def parse_tag(text: str) -> tuple[str, str]:
    """The two sides of "team=search". Raises ValueError."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise ValueError(f'"{text}" is not a tag; write key=value')
    return key, value


def parse_column(text: str) -> tuple[str, str]:
    """The two sides of "text=message": a name that rows are read by, and the file's. Raises ValueError."""
    from planner.asking.checks import require_name_of_rows
    from planner.asking.request import RequestError

    name, equals, column = text.partition("=")
    if not (name and equals and column):
        raise ValueError(f'"{text}" names no column; write text=COLUMN')
    try:
        require_name_of_rows(name, column)
    except RequestError as error:
        raise ValueError(f"{error.message}; {error.hint}") from None
    return name, column


def parse_policy_key(text: str) -> str:
    """A key of policy.toml. Raises ValueError."""
    from planner.asking.policy import KEYS
    from planner.nearest import nearest

    if text not in KEYS:
        raise ValueError(f'a policy has no key "{text}"; {nearest(text, KEYS)}')
    return text


def parse_word_of(noun: str, name: str) -> Callable[[str], str]:
    """A reader of one of the words of this tuple in planner/choice/recipes.py. It raises ValueError."""

    def read(text: str) -> str:
        from planner.choice import recipes
        from planner.nearest import nearest

        known: tuple[str, ...] = getattr(recipes, name)
        if text not in known:
            raise ValueError(f'there is no {noun} "{text}"; {nearest(text, known)}')
        return text

    return read


SIZE: Final = Amount("size", parse_gib)
COUNT: Final = Amount("count", parse_count)
USD: Final = Amount("usd", parse_usd)
HOURS: Final = Amount("hours", parse_hours)
LEASE: Final = Amount("hours", parse_lease)
CARDS: Final = Amount("cards", parse_cards)
WORDS: Final = Amount("names", parse_words)
PROVIDER: Final = Amount("text", str.lower)  # as the catalog writes them
TAG: Final = Amount("key=value", parse_tag)
COLUMN: Final = Amount("name=column", parse_column)
POLICY_KEY: Final = Amount("key", parse_policy_key)
USE_CASE: Final = Amount("use", parse_word_of("use case", "USE_CASES"))
DEPLOYMENT: Final = Amount("place", parse_word_of("deployment", "DEPLOYMENTS"))
TASKS: Final = ("causal_lm", "classification", "seq2seq")  # those that the trainer trains; a job file's key takes others
TASK: Final = OneOf(TASKS)
ACCURACY: Final = Amount("word", parse_word_of("accuracy", "ACCURACIES"))
