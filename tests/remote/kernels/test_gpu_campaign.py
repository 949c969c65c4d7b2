"""What a card is asked for in one command: parts that survive a cut, go on where they stood, and are rehearsed here."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import gpu, trainer
from benchmarks.streaming import campaign

TINY = ("--device", "cpu", "--tiny")


def told(*command: str) -> gpu.Part:
    return gpu.Part("found.md", 0.5, lambda *_: list(command))


QUICK, WRONG, BROKEN = (told("timeit", "-n", "1", "-r", "1", f"import os; os._exit({code})") for code in (0, 1, 3))
SLOW = told("timeit", "-n", "1", "-r", "1", "import time; time.sleep(600)")


def test_a_part_that_is_cut_or_breaks_leaves_the_others_their_time_and_runs_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut by its share of the time; those that ended are not run again, as they must be or not."""
    monkeypatch.setattr(gpu, "LEAST_S", 0.0)
    monkeypatch.setattr(gpu, "PARTS", {"slow": SLOW._replace(share=0.002), "broken": BROKEN, "quick": QUICK})
    assert not gpu.run(tmp_path, minutes=20.0, parts=tuple(gpu.PARTS))
    assert gpu.ended(tmp_path) == {"quick": True}
    monkeypatch.setattr(gpu, "PARTS", {"slow": QUICK, "broken": WRONG, "quick": SLOW})
    assert not gpu.run(tmp_path, minutes=20.0, parts=tuple(gpu.PARTS))
    assert gpu.ended(tmp_path) == {"quick": True, "slow": True, "broken": False}


def test_without_time_nothing_begins(tmp_path: Path) -> None:
    assert not gpu.run(tmp_path, minutes=0.1)
    assert gpu.ended(tmp_path) == {}


@pytest.mark.torch
@pytest.mark.long
@pytest.mark.parametrize(("name", "page"), [*zip(gpu.PARTS, ("features", *("streaming",) * 3, "trainer"), strict=True)])
def test_every_part_runs_through_with_its_smallest_shapes_and_has_its_page(
    name: str, page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is compiled: what that gives is tested where it is, and generated code takes a minute a row here."""
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    assert gpu.run(tmp_path, minutes=60.0, rehearsed=TINY, parts=(name,))
    assert gpu.ended(tmp_path) == {name: True}
    assert [title for title, _ in gpu.pages(tmp_path)] == [page]
    assert all("failed" not in line for line in campaign.read(tmp_path / "streaming.jsonl"))
    assert not [line["error"] for line in trainer.lines_of(tmp_path / "trainer.jsonl") if "error" in line]
    assert gpu.run(tmp_path, minutes=0.0, rehearsed=TINY, parts=(name,)), "a second call finds it there"
