"""A job of the smallest size that is still a real one: a two-layer Llama of random weights and a hundred questions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from remote.contract import (
    EVENTS_FILE,
    JOB_FILE,
    MODEL_CACHE_VARIABLE,
    DataSource,
    Event,
    JobSpec,
    Loop,
    ModelSource,
    Strategy,
    encode,
    parse_event,
)
from remote.watch import Watch

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 320,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
STRATEGY = Strategy(
    method="lora",
    rank=4,
    micro_batch_size=4,
    seq_len=96,
    param_dtype="float32",
    autocast="none",
    optimizer="adamw_torch",
    gradient_checkpointing="off",
)
LOOP = Loop(epochs=10, max_steps=12, learning_rate=1e-2, evaluations=2, num_samples=2, sample_tokens=6, checkpoint_every_s=1e9)
DATA = DataSource(train="data.jsonl", held_out_rows=20)

MakeJob = Callable[..., Path]
changed = msgspec.structs.replace


class Asked(Watch):
    """Somebody asks to stop after so many looks."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def check(self, *, needed_s: float = 0.0) -> None:
        self.looks -= 1
        if self.looks == 0:
            self.ask()
        super().check(needed_s=needed_s)


@pytest.fixture(scope="session")
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights are drawn once for all tests."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def make_job(tmp_path: Path, model_cache: Path, monkeypatch: pytest.MonkeyPatch) -> MakeJob:
    """Write a job folder and return the path of its job.json; `rows` are JSON lines, the rest replaces fields of the job."""
    monkeypatch.setenv(MODEL_CACHE_VARIABLE, str(model_cache))

    def make(
        name: str = "job",
        *,
        strategy: Strategy = STRATEGY,
        loop: Loop = LOOP,
        rows: list[Any] | None = None,
        data: DataSource = DATA,
        **fields: Any,
    ) -> Path:
        folder = tmp_path / name
        return lay_out(folder, spec_of(name, strategy, loop, data=data, **fields), questions(100) if rows is None else rows)

    return make


def spec_of(name: str, strategy: Strategy, loop: Loop, **fields: Any) -> JobSpec:
    """A job on the processor, over random weights."""
    model = ModelSource(kind="config", location="config.json", name="tiny")
    return JobSpec(run_id=name, model=model, strategy=strategy, loop=loop, **{"device": "cpu", "data": DATA, **fields})


def lay_out(folder: Path, spec: JobSpec, rows: list[Any]) -> Path:
    """The job's folder, with the smallest model and its rows as JSON lines; the path of its job.json."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "data.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (folder / JOB_FILE).write_bytes(encode(spec))
    return folder / JOB_FILE


def questions(count: int) -> list[dict[str, str]]:
    return [{"prompt": f"What is {n} plus {n + 1}?", "completion": f"The answer is {2 * n + 1}."} for n in range(count)]


@pytest.fixture
def events_of() -> Callable[[Path], list[Event]]:
    """Read all whole events beside a job.json."""
    return lambda job: list(_events(job.with_name(EVENTS_FILE)))


def _events(path: Path) -> Iterator[Event]:
    lines = path.read_bytes().splitlines() if path.exists() else []
    return (event for event in map(parse_event, lines) if event is not None)


@pytest.fixture(scope="session")
def byte_tokenizer() -> Any:
    """The tokenizer over bytes, with the plain chat template."""
    from remote.data.byte_tokenizer import byte_tokenizer
    from remote.data.tokens import ready

    tokenizer = byte_tokenizer()
    ready(tokenizer)
    return tokenizer
