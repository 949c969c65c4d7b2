"""What the box is told: a Strategy, a loop, a model, data, and until when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, get_args

from remote.contract.strategy import Strategy
from remote.contract.value import SCHEMA_VERSION, Value

Task = Literal["causal_lm", "seq2seq", "classification", "token_classification", "embedding", "image_text"]


class Loop(Value, frozen=True, kw_only=True):
    """What an estimate of memory does not need: how long, how fast, how often."""

    epochs: float = 3.0
    max_steps: int | None = None  # an upper bound in optimizer steps, when wanted
    learning_rate: float = 2e-4
    schedule: Literal["constant", "linear", "cosine", "cosine_with_restarts"] = "cosine"
    cycles: int = 4  # of cosine_with_restarts, each from the whole rate to none; assumed, like transformers' example
    warmup_ratio: float = 0.03  # of the run's steps
    warmup_steps: int | None = None  # said so, instead of `warmup_ratio`
    warmup_epochs: float | None = None  # likewise
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    seed: int = 42
    evaluations: int = 4  # evenly spaced over the run, beside the one before and the one after
    early_stopping_evaluations: int | None = None  # stop after this many without a better held-out loss
    checkpoint_every_s: float = 120.0
    init_adapter: str | None = None  # folder of an earlier adapter on the box
    layers: tuple[int, ...] | None = None  # only these blocks are adapted
    num_samples: int = 3  # held-out prompts answered before and after
    sample_tokens: int = 64


class ModelSource(Value, frozen=True, kw_only=True):
    """Where the box finds the base model."""

    kind: Literal["folder", "gguf", "hub", "config"]  # config = random weights from a config.json: tests and rehearsals
    location: str  # a path on the box, or a hub id
    revision: str | None = None  # of a hub's: the commit
    sha256: dict[str, str] = {}  # of a hub's weight files: path → hex, as far as the hub tells; others are an end
    name: str | None = None  # what the user calls it; stands in the model card instead of a path on the box


HELD_OUT_ROWS: Final = 200  # assumed: enough for a paired comparison of losses before and after
MAX_HELD_OUT_SHARE: Final = 0.2  # assumed: a small file is not spent on judging; a fifth is the field's habit

# The width of a batch is a multiple of so many tokens: tensor cores want 8 (NVIDIA, Deep Learning Performance Guide).
WIDTH_MULTIPLE: Final[Mapping[str, int]] = {"cuda": 8, "cpu": 1}


class DataSource(Value, frozen=True, kw_only=True):
    """Where the box finds the rows, and how they read."""

    train: str  # a path on the box
    name: str | None = None  # what the user calls the file; stands in the model card instead of a path on the box
    held_out: str | None = None  # None = a fixed share is split off, see held_out_rows
    held_out_rows: int = HELD_OUT_ROWS  # at most a fifth of the file is split off
    format: Literal["auto", "text", "instruction", "chat"] = "auto"
    max_rows: int | None = None


OUTPUT_DIR: Final = "output"  # on the box, beside the job file: the result

NoticeFrom = Literal["aws", "gcp"]
NOTICES: Final[dict[str, NoticeFrom]] = {
    name: name for name in get_args(NoticeFrom)
}  # by the provider's name; others give none


class JobSpec(Value, frozen=True, kw_only=True):
    """Everything the box is told. It re-derives nothing."""

    run_id: str
    model: ModelSource
    data: DataSource
    strategy: Strategy
    loop: Loop
    task: Task = "causal_lm"
    output: str = OUTPUT_DIR  # folder on the box, relative to the job file
    device: Literal["cuda", "cpu"] = "cuda"
    deadline_at_s: float | None = None  # wall clock (Unix): be saved and gone by then
    planned_peak_bytes: int | None = None  # VRAM (RAM on a CPU) that the plan promised
    planned_step_s: float | None = None
    planned_disk_bytes: int | None = (
        None  # what the plan has disk for: every checkpoint that lies there at once, and the result
    )
    notice_from: NoticeFrom | None = None  # whose metadata server tells that a spot machine is taken back; None = nobody does
    schema_version: int = SCHEMA_VERSION
