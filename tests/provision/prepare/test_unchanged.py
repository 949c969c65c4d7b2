"""A saved plan is run for what it was made for: its memory, its deadline and its price are of those rows and of that base."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from planner.plan import Plan
from planner.saved import read_plan
from provision.cli import call
from provision.errors import Refused
from provision.prepare.asking import data_measure
from provision.prepare.unchanged import require_unchanged

SHAPE = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 512,
    "max_position_embeddings": 512,
}


def write_rows(file: Path, *, count: int = 40, words: int = 20, last: str = "so") -> None:
    rows = [{"prompt": f"question {at:02}", "completion": " ".join(["word"] * words + [last])} for at in range(count)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Of a shape and rows in the folder where it is run."""
    monkeypatch.setenv("RENTUNE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    Path("config.json").write_text(json.dumps(SHAPE))
    write_rows(Path("rows.jsonl"))
    words = ["--model", "config.json", "--data", "rows.jsonl", "--seq-len", "128", "--provider", "local"]
    assert call(["plan", *words, "--save", "plan.json"]) == 0
    return read_plan(Path("plan.json").read_text(), name="plan.json")


def is_run(plan: Plan) -> None:
    require_unchanged(plan, measure=data_measure(quiet=True))


def test_what_lies_there_as_it_was_is_run(saved: Plan) -> None:
    """A word that was mended is no other job."""
    is_run(saved)
    write_rows(Path("rows.jsonl"), last="as")
    is_run(saved)


@pytest.mark.parametrize(
    ("write", "now"),
    [
        (lambda file: write_rows(file, count=41), "33 to learn, 8 held out"),
        (lambda file: write_rows(file, count=400), "392 to learn, 8 held out"),
        (lambda file: write_rows(file, words=22), "32 to learn, 8 held out"),
        (lambda file: write_rows(file, words=10), "32 to learn, 8 held out"),
    ],
    ids=["one row more", "ten times as many", "longer rows", "shorter rows"],
)
def test_other_rows_are_another_job(saved: Plan, write: Callable[[Path], None], now: str) -> None:
    """They were trained on by the deadline of those that were planned, and nobody was told."""
    write(Path("rows.jsonl"))
    with pytest.raises(Refused, match=f"made for other rows than .*rows.jsonl has now: 32 to learn, 8 held out, .*; now {now}"):
        is_run(saved)


def test_another_base_in_the_same_place_is_another_job(saved: Plan) -> None:
    Path("config.json").write_text(json.dumps(SHAPE | {"num_hidden_layers": 3}))
    with pytest.raises(Refused, match=r"made for another base than config\.json is now"):
        is_run(saved)


def test_run_asks_before_it_shows_the_plan(saved: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(Path("rows.jsonl"), count=400)
    capsys.readouterr()
    assert saved.request.data.path
    assert call(["run", "plan.json", "--yes"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "now 392 to learn" in told.err
    assert "rentune plan with the same options, and --save" in told.err


def write_adapter(folder: Path, *, rank: int, base: str = "config.json") -> None:
    """As far as its weights' length goes it is whole."""
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank, "base_model_name_or_path": base}))
    (folder / "adapter_model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")


@pytest.fixture
def going_on(saved: Plan) -> Plan:
    """The same, of a job that goes on with an adapter of rank 4."""
    assert saved.request.data.path
    write_adapter(Path("earlier"), rank=4)
    job = {
        "model": "./config.json",
        "training": {"seq_len": 128},
        "loop": {"init_adapter": "earlier"},
        "data": {"file": "rows.jsonl"},
        "where": {"providers": ["local"]},
    }
    Path("job.yaml").write_text(json.dumps(job))
    assert call(["plan", "job.yaml", "--save", "going-on.json"]) == 0
    return read_plan(Path("going-on.json").read_text(), name="going-on.json")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda folder: write_adapter(folder, rank=8), "has rank 8, not 4"),
        (lambda folder: write_adapter(folder, rank=4, base="owner/other-7b"), "is of the base owner/other-7b"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), r"holds no adapter_model\.safetensors"),
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"\x02"), "is torn"),
    ],
    ids=["of another rank", "of another base", "without weights", "cut short"],
)
def test_another_adapter_in_the_same_place_is_another_job(
    going_on: Plan, other: Callable[[Path], None], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The box would have refused it, when it was paid for."""
    is_run(going_on)
    other(Path("earlier"))
    capsys.readouterr()
    assert call(["run", "going-on.json", "--yes"]) == 2
    told = capsys.readouterr()
    assert re.search(f"init_adapter: the adapter in .*{words}|init_adapter: .* {words}", told.err), told.err
