"""How a trainer ended, what it metered, and which files are the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from remote.contract.confusion import Confusion
from remote.contract.phases import EXIT_CODES, EndReason
from remote.contract.strategy import Strategy
from remote.contract.value import SCHEMA_VERSION, Count, Measure, PathBelow, Signed, Value


class Sample(Value, frozen=True, kw_only=True):
    """One held-out prompt, answered by the base and by the tuned model."""

    prompt: str
    reference: str
    before: str
    after: str
    ended: bool | None = None  # whether the tuned answer came to its end by itself; None of a trainer of before 2026-12


class Evaluation(Value, frozen=True, kw_only=True):
    """Held-out loss per row, in the rows' order: pairs before and after can be compared."""

    step: Count
    mean_loss: Signed
    row_losses: tuple[Signed, ...]
    confusion: Confusion = ()  # of a classification, by the numbers of `Outcome.classes`; of an older trainer ()
    metrics: dict[str, Measure] = {}  # of a classification: accuracy, macro_f1, auc (where every class has rows and others)


LINES_TOLD: Final = 5  # assumed: as many as a sentence bears


FileBefore = tuple[str, int]  # the name of one of several files, and how many lines stand in those before it


def place_words(line: int, files: Sequence[FileBefore]) -> str:
    """Where a line stands: "1,204" in a single file, "b.jsonl:3" where `files` tells of several, numbered on through all."""
    if not files:
        return f"{line:,}"
    name, before = next(file for file in reversed(files) if file[1] < line or file is files[0])
    return f"{name}:{line - before}"


class Beginnings(Value, frozen=True, kw_only=True):
    """The rows of a file that a cut reaches first, and how many tokens come before there is something to learn."""

    longest: tuple[tuple[int, int], ...]  # (line, tokens), the longest row first; a few
    latest: tuple[tuple[int, int | None], ...]  # (line, tokens to its first that teaches; None = none does), the latest first
    profile: tuple[tuple[float, float], ...]  # of the latter: (mean tokens, share of the rows), shortest first
    longer: tuple[tuple[int, int], ...] = ()  # (tokens, rows that have more), at round lengths; fewer are in `longest`


class RowsRead(Value, frozen=True, kw_only=True):
    """What becomes of the rows of a part of the data within a sequence length."""

    used: Count  # learned from or judged by, cut or whole
    cut: Count  # of those
    left_out: Count  # nothing to learn is left of them, or they are too long and to be dropped
    left_out_lines: tuple[Count, ...]  # of those, at most `LINES_TOLD`, in the file
    split: Count = (
        0  # of those used: into several sequences; a turn that is too long alone is cut, and its row counts there too
    )
    too_long: Count = 0  # of those left out
    twins: Count = 0  # of rows held out: those that say word for word what is learned
    files: tuple[tuple[str, Count], ...] = ()  # see `place_words`

    @property
    def lines_words(self) -> str:
        """Where those left out stand: "line 41", "lines 3, 7, 9, 12, 20, …"."""
        lines = ", ".join(place_words(line, self.files) for line in self.left_out_lines)
        return f"line{'s' * (self.left_out > 1)} {lines}{', …' * (self.left_out > len(self.left_out_lines))}"

    def why_left_out(self, seq_len: int) -> str:
        """In words, behind "left out, "."""
        if self.too_long == self.left_out:
            return f"for {'it has' if self.left_out == 1 else 'they have'} more than {seq_len} tokens"
        nothing = f"for nothing to learn was left within {seq_len} tokens"
        return (
            nothing if not self.too_long else f"{self.too_long:,} of them for more than {seq_len} tokens, the others {nothing}"
        )


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


class Doubt(Value, frozen=True, kw_only=True):
    """Why a result that is whole may yet be of no use."""

    # than the base, on held-out rows; its classes may as well be guessed; its answers come to no end
    kind: Literal["no_better", "guessing", "endless"]
    message: str  # one sentence for a person


class Outcome(Value, frozen=True, kw_only=True):
    """How the trainer ended. Written whole (temporary name, then moved), so it is either there or not."""

    run_id: str
    reason: EndReason
    message: str  # one sentence for a person
    phase_s: dict[str, Measure]  # seconds by Phase value, as the box metered them
    measured: Measured
    reached: Reached | None = None  # None without a result
    strategy: Strategy | None = (
        None  # that was carried out in the end; None without a result, or of a trainer of before 2026-12
    )
    trainable_params: Count | None = None
    train_rows: RowsRead | None = None  # None of a trainer of before 2026-12
    held_out_rows: RowsRead | None = None  # likewise
    before: Evaluation | None = None
    after: Evaluation | None = None
    classes: tuple[str, ...] = ()  # of a classification, in the order of their numbers
    samples: tuple[Sample, ...] = ()
    doubts: tuple[Doubt, ...] = ()
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


def exit_code(outcome: Outcome) -> int:
    """What `python -m remote` returns for this outcome: 0 exactly when there is a result to bring home."""
    return 0 if outcome.trained else EXIT_CODES[outcome.reason]
