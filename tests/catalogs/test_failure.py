"""A failure's words end once, whatever parts they are put together of."""

from __future__ import annotations

import pytest

from catalogs.failure import Failure, ended_once


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Set KEY. See: rentune doctor --permissions runpod..", "Set KEY. See: rentune doctor --permissions runpod."),
        ("it said (no).. Then the rest", "it said (no). Then the rest"),
        ("wait …", "wait …"),
        ("and so on...", "and so on..."),
        ("cd .. and try again.", "cd .. and try again."),
        ("../rows.jsonl is not there.", "../rows.jsonl is not there."),
        ("rows 3..5 can't be read.", "rows 3..5 can't be read."),
    ],
)
def test_two_stops_become_one_and_nothing_else_changes(said: str, told: str) -> None:
    """Three are meant, and two in a path or a span are no end."""
    assert ended_once(said) == told
    failure = Failure(said, hint=said)
    assert (failure.message, failure.hint, str(failure)) == (told, told, told)
