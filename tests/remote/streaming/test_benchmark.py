"""The campaign of layer streaming, rehearsed on the CPU: every stage runs, and goes on where it stopped."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from benchmarks.streaming.campaign import Campaign, read, run
from benchmarks.streaming.table import table


@pytest.mark.torch
@pytest.mark.long
def test_a_rehearsal_goes_through_every_stage_and_shows_what_it_found(tmp_path: Path) -> None:
    out = tmp_path / "dry.jsonl"
    done = [
        {"kind": "gradients", "name": f"llama-3.1-8b, {kind}", "end": "whole"} for kind in ("nf4, double", "nf4", "16 bits")
    ]
    out.write_text("".join(json.dumps(line) + "\n" for line in done))
    assert run(Campaign("cpu", tiny=True, ends=time.monotonic() + 1e6, only=("gradients", "large")), out)
    lines = list(read(out))
    assert {line["name"] for line in lines if line.get("as_it_must_be")} == {"llama-3.1-8b, int8", "qwen2.5-32b, nf4, double"}
    assert not any("failed" in line for line in lines)
    shown = table(lines)
    assert "| qwen2.5-32b, nf4, double | control: refilled outside of what is recomputed | unequal | 28 of 56 |" in shown
    assert "| 100b | streamed | 24 |" in shown


def test_what_no_longer_fits_is_left_out_by_name(tmp_path: Path) -> None:
    out = tmp_path / "late.jsonl"
    assert run(Campaign("cpu", tiny=True, ends=time.monotonic(), only=("large",)), out)
    assert "- 100b: too little time was left" in table(list(read(out)))
