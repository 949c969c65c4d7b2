"""Faults that a run outlives are kept in its folder, and never end it."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.home.faults import apart
from provision.home.places import RunFolder


def test_what_goes_wrong_apart_is_kept_and_goes_no_further(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for times in (1, 2):
        with apart(folder):
            raise ValueError(f"no such alert, {times}")
    kept = folder.controller_log.read_text()
    assert kept.count("Traceback") == 2
    assert "ValueError: no such alert, 2" in kept


def test_a_home_that_takes_no_line_keeps_nothing_and_stops_nobody(tmp_path: Path) -> None:
    with apart(RunFolder(tmp_path / "is not there")):
        raise ValueError("no such alert")


def test_an_order_to_stop_is_no_fault(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), apart(RunFolder(tmp_path)):
        raise KeyboardInterrupt
