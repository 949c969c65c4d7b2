"""What the two sides say to each other. What else the controller imports of this package, `.importlinter` lists.

A `JobSpec` goes to the box, `Event`s come back line by line, an `Outcome` ends the run. Each is a frozen value with
a `schema_version`; the reader ignores fields and keeps kinds that it does not know, so an old controller can follow
a newer box. All times are seconds, all sizes bytes, unless a name says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, TypeVar, get_args

import msgspec

SCHEMA_VERSION: Final = 1

# ── phases and ends: one enumeration everywhere ────────────────────────────────────────────────────────────────────


class Phase(StrEnum):
    """The stations of a run, in order. Ledger, events, estimates and report use these names and no others."""

    PREPARE = "prepare"  # keys, job file, checks before anything is rented
    QUEUE = "queue"  # waiting for an offer that has room
    CREATE = "create"  # the provisioner's up
    BOOT = "boot"  # from "running" to the first command over SSH
    ENVIRONMENT = "environment"  # package shipped, pins installed
    DOWNLOAD = "download"  # base model and data on the box's disk
    LOAD = "load"  # weights into memory, adapter attached
    PROBE = "probe"  # the longest batch, stepped twice, thrown away
    TRAIN = "train"
    EVALUATE = "evaluate"
    SAVE = "save"
    FETCH = "fetch"  # adapter and logs home, checksums compared
    TEARDOWN = "teardown"
    CONFIRM = "confirm"  # the provider lists nothing of ours any more


class EndReason(StrEnum):
    """Why the trainer stopped."""

    COMPLETED = "completed"
    STOPPED_EARLY = "stopped_early"  # held-out loss no longer fell
    DEADLINE = "deadline"  # saved and left before the box's deadline
    INTERRUPTED = "interrupted"  # asked to stop by signal; a checkpoint was saved
    BAD_JOB = "bad_job"  # the job file or the data can't be used
    PREFLIGHT = "preflight"  # the machine is not what the plan assumed
    OUT_OF_MEMORY = "out_of_memory"
    DISK_FULL = "disk_full"
    DIVERGED = "diverged"  # loss or weights not finite
    VERIFY_FAILED = "verify_failed"  # the saved adapter did not reload to the same logits
    CRASHED = "crashed"  # anything else; the message says what


# ── what is trained, and how ───────────────────────────────────────────────────────────────────────────────────────

Task = Literal["causal_lm", "seq2seq", "classification", "token_classification", "embedding", "image_text"]
Quant = Literal[
    "none", "int8", "nf4", "fp4", "gptq_int4", "gptq_int8", "awq_int4", "hqq_int4", "hqq_int3", "hqq_int2", "mxfp4", "fp8"
]
KbitUpcast = Literal["none", "norms", "full"]
Dtype = Literal["float32", "bfloat16", "float16"]
StorageDtype = Literal["uint8", "bfloat16", "float16", "float32"]
Autocast = Literal["none", "bfloat16", "float16"]
Optimizer = Literal[
    "adamw_torch", "adamw_torch_fused", "adamw_8bit", "adamw_4bit", "paged_adamw_32bit", "paged_adamw_8bit", "adafactor",
    "sgd", "sgd_momentum", "lion_32bit", "lion_8bit", "muon", "lora_fa", "galore_adamw",
]  # fmt: skip
Checkpointing = Literal["off", "reentrant", "non_reentrant", "offloaded"]
Attention = Literal["sdpa", "eager", "flash_attention_2"]
Loss = Literal["hf", "hf_shifted", "chunked", "chunked_logits", "liger", "fused_inplace"]
Kernels = Literal["eager", "fused", "compiled"]
Sharding = Literal["none", "ddp", "zero1", "zero2", "zero3", "fsdp", "device_map"]
Offload = Literal["none", "optimizer", "params", "stream"]


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every value that crosses a border: immutable, named fields, unknown fields ignored on reading."""


class Streaming(Value, frozen=True, kw_only=True):
    """How frozen blocks pass through the GPU when `offload` is "stream".

    Part of the contract, so that a Strategy can say it; this version neither plans nor runs it (see CAPABILITIES).
    """

    num_slots: int
    num_resident_blocks: int
    num_visits: int  # micro-batches served by one visit of a block
    num_blocks_without_recompute: int  # the last K blocks keep their activations


ALPHA_PER_RANK: Final = 2.0  # assumed: the field's habit, as in TRL 1.10 (r 16, alpha 32)


class Strategy(Value, frozen=True, kw_only=True):
    """One way to train, complete: chosen by the planner, carried out by the trainer to the letter.

    Field names and values are those of the estimate contract. Nothing here is "auto". A change would be an Event.
    """

    method: str  # as the estimate contract names it; qlora is resolved to lora + nf4 + double_quant before it gets here
    rank: int | None = None  # None where the method has no rank
    alpha: float | None = None  # None = ALPHA_PER_RANK × rank
    dropout: float = 0.0
    target_modules: tuple[str, ...] | Literal["all-linear", "default"] = "all-linear"
    modules_to_save: tuple[str, ...] = ()
    num_virtual_tokens: int | None = None
    trainable_layers: int | None = None
    method_options: dict[str, Any] = {}
    quant: Quant = "none"
    double_quant: bool = False
    quant_storage: StorageDtype = "uint8"
    kbit_upcast: KbitUpcast = "none"
    param_dtype: Dtype = "bfloat16"
    autocast: Autocast = "bfloat16"
    adapter_dtype: Dtype = "float32"
    optimizer: Optimizer = "adamw_torch_fused"
    optimizer_in_backward: bool = False
    micro_batch_size: int = 1
    gradient_accumulation_steps: int = 1
    seq_len: int = 2048
    padded: bool = False  # batches hold padding, so a mask reaches the kernels
    gradient_checkpointing: Checkpointing = "non_reentrant"
    activation_offload: bool = False
    attention: Attention = "sdpa"
    loss: Loss = "hf"
    kernels: Kernels = "eager"
    num_gpus: int = 1
    num_nodes: int = 1
    sharding: Sharding = "none"
    offload: Offload = "none"
    streaming: Streaming | None = None  # how blocks pass under offload "stream"; None = by two slots, none resident

    def __hash__(self) -> int:
        """Equal strategies have equal hashes; `method_options`, which have none, are left to the comparison."""
        model = self.method, self.rank, self.target_modules, self.quant, self.param_dtype, self.optimizer
        return hash((*model, self.gradient_checkpointing, self.sharding, self.num_gpus, self.seq_len, self.micro_batch_size))


class Loop(Value, frozen=True, kw_only=True):
    """What an estimate of memory does not need: how long, how fast, how often."""

    epochs: float = 3.0
    max_steps: int | None = None  # an upper bound in optimizer steps, when wanted
    learning_rate: float = 2e-4
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup_ratio: float = 0.03
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


# ── what comes back ────────────────────────────────────────────────────────────────────────────────────────────────


# Whoever reads what a box says adds it up, makes whole numbers of it and writes it down again: none of that fails within these.
MOST: Final = 2**53  # derived: as far as a float tells each whole number from the next; 9 PB, or 285 million years
Count = Annotated[int, msgspec.Meta(ge=0, le=MOST)]
Measure = Annotated[float, msgspec.Meta(ge=0, le=MOST)]
Signed = Annotated[float, msgspec.Meta(ge=-MOST, le=MOST)]
# Of a file, relative to a folder, and in it.
PathBelow = Annotated[
    str, msgspec.Meta(pattern=r"^(?!/)(?!(?:.*/)?\.{1,2}(?:/|$))[^\x00-\x1f\x7f]+(?![\s\S])", max_length=1024)
]

# What the events' data count or measure, whatever the kind; the losses apart, none of it is below zero.
LOSSES: Final = ("loss", "mean_loss")
FIGURES: Final = (
    *LOSSES, "step", "total_steps", "seconds", "step_s", "planned_step_s", "tokens", "tokens_per_s", "size_bytes",
    "fetched_bytes", "peak_vram_process_bytes", "peak_vram_reserved_bytes", "peak_vram_allocated_bytes", "peak_ram_bytes",
)  # fmt: skip


class Event(Value, frozen=True, kw_only=True):
    """One JSON line of the box's `events.jsonl`.

    Kinds so far: machine, phase_started, phase_ended, progress, probe, step, evaluation, checkpoint, checkpoint_pushed,
    checkpoint_not_pushed, resumed, sample, verified, warning, spot_notice, ended. docs/trainer.md lists what `data` holds for
    each. A reader keeps what it does not know. "strategy_changed" is kept for a trainer that goes on with another Strategy
    after an out-of-memory; this one never does, it ends.
    """

    seq: Count  # 0, 1, 2, … across restarts of the trainer
    kind: str
    phase: str  # a Phase value; of a newer box perhaps one that is not known here
    at_s: Measure  # wall clock, Unix
    monotonic_s: Measure
    data: dict[str, Any] = {}
    schema_version: int = SCHEMA_VERSION


class Sample(Value, frozen=True, kw_only=True):
    """One held-out prompt, answered by the base and by the tuned model."""

    prompt: str
    reference: str
    before: str
    after: str


class Evaluation(Value, frozen=True, kw_only=True):
    """Held-out loss per row, in the rows' order: pairs before and after can be compared."""

    step: Count
    mean_loss: Signed
    row_losses: tuple[Signed, ...]


LINES_TOLD: Final = 5  # assumed: as many as a sentence bears


class Beginnings(Value, frozen=True, kw_only=True):
    """The rows of a file that a cut reaches first, and how many tokens come before there is something to learn."""

    longest: tuple[tuple[int, int], ...]  # (line, tokens), the longest row first; a few
    latest: tuple[tuple[int, int | None], ...]  # (line, tokens to its first that teaches; None = none does), the latest first
    profile: tuple[tuple[float, float], ...]  # of the latter: (mean tokens, share of the rows), shortest first


class RowsRead(Value, frozen=True, kw_only=True):
    """What becomes of the rows of a part of the data within a sequence length."""

    used: Count  # learned from or judged by, cut or whole
    cut: Count  # of those
    left_out: Count  # nothing to learn is left of them
    left_out_lines: tuple[Count, ...]  # of those, at most `LINES_TOLD`, in the file

    @property
    def lines_words(self) -> str:
        """Where those left out stand: "line 41", "lines 3, 7, 9, 12, 20, …"."""
        lines = ", ".join(f"{line:,}" for line in self.left_out_lines)
        return f"line{'s' * (self.left_out > 1)} {lines}{', …' * (self.left_out > len(self.left_out_lines))}"


class Measured(Value, frozen=True, kw_only=True):
    """What the meters showed. Absent meters are None: a CPU box has no VRAM."""

    peak_vram_allocated_bytes: Count | None = None
    peak_vram_reserved_bytes: Count | None = None
    peak_vram_process_bytes: Count | None = None
    peak_ram_bytes: Count | None = None
    tokens_per_s: Measure | None = None  # over the train phase, padding included
    step_s: Measure | None = None  # median optimizer step
    energy_kwh: Measure | None = None
    steps: Count = 0
    tokens: Count = 0


class AdapterFile(Value, frozen=True, kw_only=True):
    path: PathBelow  # relative to the adapter folder
    size_bytes: Count
    sha256: str


class Reached(Value, frozen=True, kw_only=True):
    """How far a training came, in optimizer steps."""

    step: Count  # the last one that was made
    total_steps: Count  # that the job asks for
    judged_step: Count  # the last one whose weights were judged by held-out rows; 0 = none after the base
    weights_step: Count  # whose weights are the result


class Outcome(Value, frozen=True, kw_only=True):
    """How the trainer ended. Written whole (temporary name, then moved), so it is either there or not."""

    run_id: str
    reason: EndReason
    message: str  # one sentence for a person
    phase_s: dict[str, Measure]  # seconds by Phase value, as the box metered them
    measured: Measured
    reached: Reached | None = None  # None without a result
    trainable_params: Count | None = None
    train_rows: RowsRead | None = None  # None of a trainer of before 2026-12
    held_out_rows: RowsRead | None = None  # likewise
    before: Evaluation | None = None
    after: Evaluation | None = None
    samples: tuple[Sample, ...] = ()
    base_revision: str | None = None  # of a base from the hub: the commit that was trained
    base_sha256: dict[str, str] = {}  # likewise: weight file → hex, of what was loaded
    adapter: tuple[AdapterFile, ...] = ()  # empty = nothing to fetch
    versions: dict[str, str] = {}
    schema_version: int = SCHEMA_VERSION

    @property
    def trained(self) -> bool:
        """Whether a verified adapter exists that the user may call a result."""
        return bool(self.adapter) and self.reason in (EndReason.COMPLETED, EndReason.STOPPED_EARLY, EndReason.DEADLINE)

    @property
    def in_part(self) -> bool:
        """Whether the deadline left steps undone. Where it only cut off the judging after the last step, all were done."""
        return self.reason is EndReason.DEADLINE and (self.reached is None or self.reached.step < self.reached.total_steps)


EXIT_CODES: Final[dict[EndReason, int]] = {  # of a trainer that ends without a result; with one it is 0
    EndReason.COMPLETED: 0,
    EndReason.STOPPED_EARLY: 0,
    EndReason.DEADLINE: 3,
    EndReason.INTERRUPTED: 4,
    EndReason.BAD_JOB: 5,
    EndReason.PREFLIGHT: 6,
    EndReason.OUT_OF_MEMORY: 7,
    EndReason.DISK_FULL: 8,
    EndReason.DIVERGED: 9,
    EndReason.VERIFY_FAILED: 10,
    EndReason.CRASHED: 11,
}


def exit_code(outcome: Outcome) -> int:
    """What `python -m remote` returns for this outcome: 0 exactly when there is a result to bring home."""
    return 0 if outcome.trained else EXIT_CODES[outcome.reason]


# ── what this trainer can do ───────────────────────────────────────────────────────────────────────────────────────


class Capabilities(Value, frozen=True, kw_only=True):
    """The values of Strategy and Task that the shipped trainer carries out. A plan outside them is "not yet runnable"."""

    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    quants: tuple[str, ...]
    optimizers: tuple[str, ...]
    checkpointing: tuple[str, ...]
    attention: tuple[str, ...]
    losses: tuple[str, ...]
    kernels: tuple[str, ...]
    sharding: tuple[str, ...]
    offload: tuple[str, ...]
    max_gpus: int
    unquantized: tuple[str, ...] = ()  # methods that read the weights' numbers, and so need 16 or 32 bits

    def missing(self, strategy: Strategy, task: str = "causal_lm") -> tuple[str, ...]:
        """What of `strategy` the trainer cannot do, as "key=value" words; empty when it can do all of it."""
        asked: tuple[tuple[str, str, tuple[str, ...]], ...] = (
            ("task", task, self.tasks),
            ("method", strategy.method, self.methods),
            ("quant", strategy.quant, self.quants),
            ("optimizer", strategy.optimizer, self.optimizers),
            ("gradient_checkpointing", strategy.gradient_checkpointing, self.checkpointing),
            ("attention", strategy.attention, self.attention),
            ("loss", strategy.loss, self.losses),
            ("kernels", strategy.kernels, self.kernels),
            ("sharding", strategy.sharding, self.sharding),
            ("offload", strategy.offload, self.offload),
        )
        missing = [f"{key}={value}" for key, value, known in asked if value not in known]
        over_packed = strategy.quant != "none" and strategy.method in self.unquantized
        missing += [f"method={strategy.method} over quant={strategy.quant}"] * over_packed
        missing += ["optimizer_in_backward"] * strategy.optimizer_in_backward
        missing += ["activation_offload"] * strategy.activation_offload
        missing += [f"num_gpus={strategy.num_gpus}"] * (strategy.num_gpus > self.max_gpus)
        return tuple(missing)


CAPABILITIES: Final = Capabilities(
    tasks=("causal_lm",),
    methods=(
        *("lora", "rslora", "pissa", "lora_plus", "dora", "adalora", "loha", "lokr", "oft", "boft", "vera", "fourierft", "ia3"),
        "prompt_tuning",
        "p_tuning",
        "prefix_tuning",
        "lora_prompt",
        "bottleneck",
        "ln_tuning",
        "bitfit",
        "freeze",
        "full",
    ),
    quants=("none", "nf4", "int8"),
    optimizers=("adamw_torch", "adamw_torch_fused", "adamw_8bit", "sgd", "lora_fa"),
    checkpointing=("off", "reentrant", "non_reentrant"),
    attention=("sdpa", "eager"),
    losses=("hf",),
    kernels=("eager",),
    sharding=("none",),
    offload=("none",),
    max_gpus=1,
    unquantized=("pissa",),
)


# ── names of files on the box, beside job.json ─────────────────────────────────────────────────────────────────────

JOB_FILE: Final = "job.json"
EVENTS_FILE: Final = "events.jsonl"
OUTCOME_FILE: Final = "outcome.json"
LOG_FILE: Final = "log"
PID_FILE: Final = "pid"
RC_FILE: Final = "rc"  # the exit code, moved into place when it is whole
CHECKPOINT_DIR: Final = "checkpoints"  # a folder in it for each, named by `checkpoint_name`
SECRETS_VARIABLE: Final = "RENTUNE_SECRETS"  # a JSON file of variables for the trainer alone, which removes it
MODEL_CACHE_VARIABLE: Final = "RENTUNE_MODEL_CACHE"  # folder for converted base models; without it `cache` beside job.json

# ── a checkpoint: a folder of three files ──────────────────────────────────────────────────────────────────────────

WEIGHTS_FILE: Final = "trainable.safetensors"
STATE_FILE: Final = "state.pt"
PROGRESS_FILE: Final = "progress.json"
CHECKPOINT_FILES: Final = (WEIGHTS_FILE, STATE_FILE, PROGRESS_FILE)
KEPT_CHECKPOINTS: Final = 2  # assumed: the newest, and the one before it, which somebody may be fetching
MAX_CHECKPOINTS: Final = (
    KEPT_CHECKPOINTS + 2
)  # derived: on a disk at once; beside these the best, and one that is being written


class Judged(Value, frozen=True, kw_only=True):
    """What a checkpoint's progress says of another checkpoint, which is needed beside it."""

    best_step: Count | None = None  # of the lowest held-out loss after step 0


def checkpoint_name(step: int) -> str:
    """Of a checkpoint's folder; as text they sort by step."""
    return f"step-{step:08d}"


def checkpoint_step(name: str) -> int | None:
    """The step of a checkpoint's folder; None of any other name."""
    found = re.fullmatch(r"step-([0-9]{8,16})", name)
    return int(found[1]) if found else None


T = TypeVar("T")

_encoder = msgspec.json.Encoder()


def encode(value: Value) -> bytes:
    """One line of JSON, without the newline."""
    return _encoder.encode(value)


def decode(data: bytes | str, kind: type[T]) -> T:
    """Read a value: the one door for bytes that may be damaged.

    Raises `msgspec.DecodeError` whatever is wrong with them; as `msgspec.ValidationError` with the path (`$.strategy.rank`).
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(f"no JSON that can be read: {error}") from None


def parse_event(line: bytes) -> Event | None:
    """Read one line of `events.jsonl`; None for a line that a kill cut short (the next start goes on in a new line), and for
    one whose figures are none, or beyond all that is counted here. A figure that is null was not metered, and is left out.
    """
    try:
        event = decode(line, Event)
    except msgspec.DecodeError:
        return None
    untold = {key for key in FIGURES if event.data.get(key, 0) is None}
    if not all(_is_figure(key, event.data[key]) for key in FIGURES if key in event.data and key not in untold):
        return None
    told = {key: value for key, value in event.data.items() if key not in untold}
    return msgspec.structs.replace(event, data=told) if untold else event


def _is_figure(key: str, value: object) -> bool:
    least = -MOST if key in LOSSES else 0
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= MOST
