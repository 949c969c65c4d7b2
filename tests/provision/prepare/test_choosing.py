"""What `run` asks before anything is rented."""

from __future__ import annotations

import pytest

from provision.prepare.choosing import KeyQuestion


@pytest.mark.parametrize(
    ("given", "answer", "shown", "right", "times"),
    [
        ("SHA256:a", None, "SHA256:a", True, 0),
        ("SHA256:a", True, "SHA256:b", False, 0),
        (None, True, "SHA256:a", True, 1),
        (None, False, "SHA256:a", False, 1),
        (None, None, "SHA256:a", False, 0),
    ],
    ids=["named and shown", "another than was named", "agreed to", "declined", "nobody is there"],
)
def test_a_hosts_key_is_right_when_somebody_says_so(
    given: str | None, answer: bool | None, shown: str, right: bool, times: int
) -> None:
    """A key that was named is not asked about, and silence is no consent."""
    asked: list[str] = []

    def ask(fingerprint: str) -> bool:
        asked.append(fingerprint)
        return bool(answer)

    question = KeyQuestion(given, ask=None if answer is None else ask)
    assert question(shown) is right
    assert asked == [shown] * times


def test_what_was_agreed_to_is_not_asked_again() -> None:
    """The plan and the run show the same key."""
    asked: list[str] = []
    question = KeyQuestion(None, ask=lambda fingerprint: not asked.append(fingerprint))  # type: ignore[func-returns-value]
    assert question("SHA256:a")
    assert question("SHA256:a")
    assert not question("SHA256:b")
    assert asked == ["SHA256:a"]
