"""The engine as its makers release it: fetched only for whoever agrees, and used only as its makers say that it is.

Where the releases lie is a double on loopback.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.clouds.engine.build import SHIM, find_engine
from provision.clouds.engine.release import QUESTION, SOURCES, obtain_engine
from provision.clouds.engine.where import VERSION, engine_binary, release_binary
from provision.errors import MissingPart
from provision.home.places import Places
from tests.doubles.services.release import ARCHIVE, Releases, served

LINUX = ("Linux", "x86_64")
ENGINE = f"#!/bin/sh\necho v{VERSION}\n"
WHOLE = {"pulumi/pulumi": ENGINE, f"pulumi/{SHIM}": "#!/bin/sh\n", "pulumi/pulumi-language-java": "not needed"}


@pytest.fixture
def empty(tmp_path: Path) -> Places:
    return Places(home=tmp_path / "home", cache=tmp_path / "cache")


@pytest.fixture
def releases(tmp_path: Path) -> Iterator[Releases]:
    with served(tmp_path / "releases") as there:
        yield there


@pytest.fixture
def without_go(tmp_path: Path) -> dict[str, str]:
    """Nothing can be built here, so that a build shows by its refusal."""
    return {"PATH": str(tmp_path), "PIP_NO_INDEX": "1", "UV_NO_INDEX": "1", "UV_OFFLINE": "1", "HOME": str(tmp_path)}


class Person:
    """Says yes or no, and remembers what was asked and told."""

    def __init__(self, *, yes: bool) -> None:
        self.yes = yes
        self.asked: list[str] = []
        self.told: list[str] = []

    def agrees(self, question: str) -> bool:
        self.asked.append(question)
        return self.yes

    def obtain(self, places: Places, environment: dict[str, str], *urls: str, system: tuple[str, str] = LINUX) -> Path:
        return obtain_engine(
            places, agrees=self.agrees, progress=self.told.append, environment=environment, sources=urls, system=system
        )


def test_whoever_agrees_gets_the_release_and_is_not_asked_again(
    empty: Places, releases: Releases, without_go: dict[str, str]
) -> None:
    """Only the programs that are needed, ready to be run; the next command finds them."""
    releases.publish(WHOLE)
    person = Person(yes=True)
    binary = person.obtain(empty, without_go, releases.url)
    assert binary == release_binary(empty) == find_engine(empty, without_go)
    assert {path.name for path in binary.parent.iterdir()} == {"pulumi", SHIM}
    assert all(os.access(path, os.X_OK) for path in binary.parent.iterdir())
    assert [path.name for path in (empty.cache / "pulumi").iterdir()] == [f"{VERSION}-release"]
    assert person.obtain(empty, without_go, releases.url) == binary
    assert person.asked == [QUESTION]


def test_without_a_yes_nothing_is_fetched_and_the_build_stays(
    empty: Places, releases: Releases, without_go: dict[str, str]
) -> None:
    releases.publish(WHOLE)
    person = Person(yes=False)
    with pytest.raises(MissingPart, match="needs Go"):
        person.obtain(empty, without_go, releases.url)
    assert person.asked == [QUESTION]
    assert not release_binary(empty).exists()
    assert not any("fetching" in told for told in person.told)


def test_a_machine_that_no_release_is_for_is_not_asked(empty: Places, without_go: dict[str, str]) -> None:
    person = Person(yes=True)
    with pytest.raises(MissingPart, match="needs Go"):
        person.obtain(empty, without_go, system=("Linux", "riscv64"))
    assert person.asked == []


@pytest.mark.parametrize(
    ("files", "listed", "words"),
    [
        (WHOLE, "f" * 64, f"its list says {'f' * 64}: nothing of it is used"),
        (WHOLE, f"{'f' * 64} and more", "its list has no such lines: nothing of it is used"),
        ({**WHOLE, "pulumi/pulumi": "#!/bin/sh\necho v3.200.0\n"}, None, f"calls itself 3.200.0, not {VERSION}"),
        ({"pulumi/pulumi": ENGINE}, None, f"has no {SHIM}"),
        ({"../pulumi": ENGINE, f"/pulumi/{SHIM}": "", "pulumi": ENGINE}, None, f"has no pulumi, {SHIM}"),
    ],
    ids=["another hash", "no hash", "another version", "half of it", "other places"],
)
def test_what_is_not_as_its_makers_say_is_not_used(
    files: dict[str, str], listed: str | None, words: str, empty: Places, releases: Releases, without_go: dict[str, str]
) -> None:
    """Nor is something else built in silence: somebody should know."""
    releases.publish(dict(files), listed=listed)
    with pytest.raises(MissingPart, match=words.replace("(", r"\(")) as caught:
        Person(yes=True).obtain(empty, without_go, releases.url)
    assert "answer no" in str(caught.value.hint)
    assert list((empty.cache / "pulumi").iterdir()) == []


def test_no_link_of_an_archive_is_followed(
    empty: Places, releases: Releases, without_go: dict[str, str], tmp_path: Path
) -> None:
    """One in the engine's place is no engine."""
    link = tarfile.TarInfo("pulumi/pulumi")
    link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "elsewhere")
    releases.publish({"pulumi/pulumi": link, f"pulumi/{SHIM}": ""})
    with pytest.raises(MissingPart, match="has no pulumi"):
        Person(yes=True).obtain(empty, without_go, releases.url)


def test_the_next_source_is_asked_where_one_has_nothing(empty: Places, releases: Releases, without_go: dict[str, str]) -> None:
    releases.publish(WHOLE)
    person = Person(yes=True)
    assert person.obtain(empty, without_go, f"{releases.url}/nothing", releases.url) == release_binary(empty)
    assert person.told == [f"fetching {ARCHIVE} from {releases.url}/nothing", f"fetching {ARCHIVE} from {releases.url}"]


def test_where_none_can_be_reached_it_is_told_and_built(empty: Places, releases: Releases, without_go: dict[str, str]) -> None:
    person = Person(yes=True)
    with pytest.raises(MissingPart, match="needs Go"):
        person.obtain(empty, without_go, releases.url)
    why = f"{releases.url}: the server said 404 File not found"
    assert f"{ARCHIVE} could not be fetched ({why}); it is built from its Go modules instead" in person.told


def test_our_own_build_comes_before_a_release(empty: Places, releases: Releases, without_go: dict[str, str]) -> None:
    """It is equal to the byte wherever it is made."""
    for binary in (engine_binary(empty), release_binary(empty)):
        binary.parent.mkdir(parents=True)
        binary.touch()
    person = Person(yes=True)
    assert person.obtain(empty, without_go, releases.url) == engine_binary(empty)
    assert person.asked == []


def test_it_is_fetched_over_tls_alone() -> None:
    assert all(source.startswith("https://") for source in SOURCES)
