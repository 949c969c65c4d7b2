"""A ledger that grows: what is new alone is read, and it says the same as the whole file does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.account.grown import Grown
from provision.account.ledger import Ledger
from provision.account.lines import AnyLine, Created, Ended, Header, PhaseEnded, PhaseStarted
from provision.account.runs import fold
from tests.provision.account.test_ledger import BILLED, BOX, GONE, OPENED, STUCK
from tests.provision.plans import attempted

RUNS = ("r1", "r2", "r3")
OF_A_RUN: tuple[AnyLine, ...] = (
    OPENED,
    OPENED,
    attempted("r1", at_s=110.0),
    PhaseStarted(run_id="r1", at_s=115.0, phase="create"),
    Created(run_id="r1", at_s=120.0, box=BOX),
    PhaseEnded(run_id="r1", at_s=121.0, phase="environment", duration_s=1.0, ok=True),
    Ended(run_id="r1", at_s=140.0, teardown=STUCK),
    Ended(run_id="r1", at_s=150.0, teardown=GONE),
    BILLED,
)
ODD = (
    b'{"kind":"preempted","run_id":"r1","at_s":5,"taking":2,"number":7}',
    b'{"kind":"opened","run_id":"r2","at_',
    b'{"kind":"billed","run_id":"r3","at_s":-1}',
    b"\xff\x00",
    b"",
)

PLACES = st.sampled_from([(0, 0), (0, 0), (0, 0), (1, 1), (1, 2), (1, 3), (2, 1), (2, 4)])
LINES = st.builds(
    lambda line, run_id, place: msgspec.json.encode(
        msgspec.structs.replace(line, run_id=run_id, taking=place[0], number=place[1])
    ),
    st.sampled_from(OF_A_RUN),
    st.sampled_from(RUNS),
    PLACES,
)
ENDS = st.sampled_from([b"\n", b"\n", b"\n", b"", b"\n\n"])
TEXTS = st.tuples(st.one_of(LINES, LINES, LINES, st.sampled_from(ODD)), ENDS).map(b"".join)


def append(path: Path, text: bytes) -> None:
    with path.open("ab") as file:
        file.write(text)


def cut_off(path: Path, _text: bytes) -> None:
    whole = path.read_bytes() if path.exists() else b""
    path.write_bytes(whole[: len(whole) // 2])


def write_over(path: Path, text: bytes) -> None:
    """The same file with more in it than before, and all of it other."""
    size = path.stat().st_size if path.exists() else 0
    path.write_bytes((text + b"\n") * (1 + size // (len(text) + 1)))


def put_in_its_place(path: Path, text: bytes) -> None:
    other = path.with_name("other")
    other.write_bytes(text)
    other.replace(path)


def lose(path: Path, _text: bytes) -> None:
    path.unlink(missing_ok=True)


Deed = Callable[[Path, bytes], None]
DEEDS: tuple[Deed, ...] = (append,) * 12 + (cut_off, write_over, put_in_its_place, lose)


@given(deeds=st.lists(st.tuples(st.sampled_from(DEEDS), TEXTS), max_size=25))
def test_what_is_read_on_says_the_same_as_the_whole_file(
    deeds: list[tuple[Deed, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever happens to the file: lines of many runs, out of their places, torn, twice, of newer versions; another file."""
    followed = Ledger(tmp_path_factory.mktemp("home") / "ledger.jsonl")
    for deed, text in deeds:
        deed(followed.path, text)
        anew = Ledger(followed.path)
        assert list(followed.runs().items()) == list(fold(anew.lines()).items())
        for run_id in RUNS:
            heads = [msgspec.json.decode(raw, type=Header) for raw in anew.raw_lines(run_id)]
            assert followed.num_lines(run_id) == len(heads)
            assert followed.takings(run_id) == max((each.taking for each in heads), default=0)
            in_its_place = followed._in_its_place(msgspec.structs.replace(BILLED, run_id=run_id))
            last = max(((each.taking, each.number) for each in heads if each.number), default=(0, -1))
            assert (in_its_place.taking, in_its_place.number) == (last[0], last[1] + 1)


def test_runs_stand_in_the_order_of_their_places_whenever_their_lines_came(tmp_path: Path) -> None:
    """One whose lines have no numbers was opened here, before any that was taken over from another machine."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for run_id, number in (("r1", 1), ("r2", 0)):
        ledger.append(msgspec.structs.replace(OPENED, run_id=run_id, taking=number, number=number))
        ledger.runs()
    assert list(ledger.runs()) == list(Ledger(ledger.path).runs()) == ["r2", "r1"]


def test_what_was_read_is_not_read_again(tmp_path: Path) -> None:
    """A ledger of thousands of runs is looked at with every step of a training."""
    path, read = tmp_path / "ledger.jsonl", list[bytes]()

    def more(known: tuple[bytes, ...], lines: Sequence[bytes]) -> tuple[bytes, ...]:
        read.extend(lines)
        return (*known, *lines)

    followed = Grown(path, tuple[bytes, ...](), more)
    append(path, b"one\ntwo\nthr")
    assert followed.look() == (b"one", b"two", b"thr")
    first = followed.look()
    assert followed.look() is first
    read.clear()
    append(path, b"ee\nfour\n")
    assert followed.look() == (b"one", b"two", b"three", b"four")
    assert read == [b"three", b"four"]


def test_neither_an_append_nor_a_look_decodes_what_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line's number follows from what is known of its run's; what another process has written since is looked at."""
    ledger, decoded, really = Ledger(tmp_path / "ledger.jsonl"), list[bytes](), Ledger._head_of
    for number in range(1, 20):
        ledger.append(msgspec.structs.replace(OPENED, run_id=f"r{number}"))
    ledger.takings("r1")
    foreign = msgspec.structs.replace(BILLED, taking=3, number=7)
    Ledger(ledger.path).append(foreign)

    def counted(self: Ledger, raw: bytes) -> Header | None:
        decoded.append(raw)
        return really(self, raw)

    monkeypatch.setattr(Ledger, "_head_of", counted)
    ledger.append(BILLED)
    assert decoded == [msgspec.json.encode(foreign)]
    assert [(each.taking, each.number) for each in ledger.lines() if each.run_id == "r1"] == [(0, 0), (3, 7), (3, 8)]
