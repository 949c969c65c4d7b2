"""What is there and what is missing, and what that means for each provider."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.doctor import Finding, examine, provider_words, usable_providers
from provision.places import Places
from provision.providers import known_providers, make_provisioner


def finding(part: str, state: str, serves: str) -> Finding:
    return Finding(part=part, state=state, detail="", serves=serves)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("missing", "left"),
    [
        ("everything", set()),
        ("SSH", set()),
        ("the local box", {"host", "aws"}),
        ("clouds", {"host", "local"}),
        ("aws", {"host", "local"}),
        ("nothing of ours", {"host", "local", "aws"}),
    ],
)
def test_a_missing_part_stands_in_the_way_of_what_needs_it(missing: str, left: set[str]) -> None:
    """And of nothing else."""
    usable = usable_providers((finding("part", "missing", missing), finding("nice", "optional", "everything")))
    assert {name for name, ready in usable.items() if ready} == left


def test_what_is_missing_comes_with_what_to_type(places: Places) -> None:
    """On a machine without programs and credentials every gap has its remedy."""
    findings = examine(places, {"HOME": str(places.home), "PATH": ""}, find=lambda _program: None)
    assert all(found.remedy for found in findings if found.state != "there")
    credentials = next(found for found in findings if found.part == "aws credentials")
    assert credentials.state == "missing"


def test_credentials_are_named_and_never_shown(places: Places) -> None:
    """Only the variable's name."""
    findings = examine(places, {"HOME": str(places.home), "AWS_ACCESS_KEY_ID": "AKIASECRET"})
    assert any("AWS_ACCESS_KEY_ID" in found.detail for found in findings)
    assert not any("AKIASECRET" in found.detail for found in findings)


def test_looking_stores_nothing(places: Places) -> None:
    """Without --install it only looks."""
    examine(places, {"HOME": str(places.home)})
    assert not places.home.exists()


def test_every_provider_says_what_it_has_met(places: Places) -> None:
    """No provider is called run for real before it was."""
    words = provider_words(examine(places, {"HOME": str(places.home)}))
    assert set(words) == set(known_providers())
    assert "run for real" not in " ".join(words.values())


def test_every_known_provider_has_a_provisioner_of_that_name(places: Places) -> None:
    """The table of names and the code behind it agree."""
    for name in known_providers():
        made = make_provisioner(name, places=places, environment={"PATH": ""}, user_at_host="me@127.0.0.1")
        assert made.name == name
    assert not Path(places.home / "boxes").exists()
