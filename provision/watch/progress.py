"""A run as it goes: line by line for logs, or a live table on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from planner.asking.request import OWN_MACHINES
from planner.plan import Plan
from planner.report.lines import wrapped
from provision.redact import redact
from provision.watch.view import TOLD, View, after, restart_words
from provision.words import METRICS, bytes_words, seconds_words, spent_words, usd_words
from remote.contract import Event

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

ADVANCE_LINE_S = 10.0  # assumed: a line a step, or a batch, would drown the log


class LineDisplay:
    """Plain lines, each with the time of day: for pipes, CI and the supervisor's log. `columns`: None = none is broken."""

    def __init__(self, out: TextIO, *, clock: Callable[[], float] = time.time, columns: int | None = None) -> None:
        self._out = out
        self._columns = columns
        self._clock = clock
        self._view = View()
        self._next_advance_s = 0.0
        self._ours: set[str] = set()  # phases of the controller; the trainer has some of the same name

    def phase(self, name: str) -> None:
        self._ours.add(name)
        self._say(name)

    def note(self, sentence: str) -> None:
        self._say(f"  {sentence}")

    def event(self, event: Event) -> None:
        again, self._view = restart_words(self._view, event), after(self._view, event)
        if again is not None:
            self._say(f"  {again}")
        if event.kind == "phase_started":
            self._say(f"{event.phase} in the trainer" if event.phase in self._ours else str(event.phase))
        elif event.kind in TOLD and self._view.last_word:
            self._say(f"  {self._view.last_word}")
        elif event.kind == "evaluation" and self._view.held_out:
            self._say(f"  {evaluation_words(self._view, event.data.get('seconds'))}")
        elif event.kind in ("step", "progress") and self._clock() >= self._next_advance_s:
            self._next_advance_s = self._clock() + ADVANCE_LINE_S
            self._say(f"  {step_words(self._view) if event.kind == 'step' else self._view.last_word}")

    def _say(self, words: str) -> None:
        with suppress(OSError):  # a full disk or a closed pipe must not end a run that is paid for
            at = time.strftime("%H:%M:%S", time.localtime(self._clock()))
            self._out.write(f"{at} {self._broken(redact(words))}\n")
            self._out.flush()

    def _broken(self, words: str) -> str:
        """Between words, what goes on standing below what began."""
        if self._columns is None:
            return words
        bare = words.lstrip()
        indent = " " * (len(words) - len(bare))
        lines = wrapped(bare, self._columns - len("HH:MM:SS ") - len(indent))
        return indent + f"\n{' ' * len('HH:MM:SS ')}{indent}".join(lines)


class LiveDisplay:
    """A table that is drawn anew as things happen. Use it as a context manager."""

    def __init__(
        self,
        console: Console,
        plan: Plan,
        *,
        opened_at_s: float,
        deadline_at_s: Callable[[], float],
        spent_usd: Callable[[], Decimal],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._console = console
        self._plan = plan
        self._opened_at_s = opened_at_s
        self._deadline_at_s = deadline_at_s
        self._spent_usd = spent_usd
        self._clock = clock
        self._phase = "prepare"
        self._view = View()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        from rich.live import Live

        self._live = Live(console=self._console, get_renderable=self._draw, refresh_per_second=2, transient=True)
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the terminal to a question inside the block."""
        if self._live is not None:
            self._live.stop()
        try:
            yield
        finally:
            if self._live is not None:
                self._live.start()

    def phase(self, name: str) -> None:
        self._phase = name

    def note(self, sentence: str) -> None:
        self._console.print(f"  {redact(sentence)}", markup=False, highlight=False, style="dim")

    def event(self, event: Event) -> None:
        self._view = after(self._view, event)
        self._phase = str(event.phase)  # each event tells its own: who takes a run up again has missed where it began
        if event.kind in TOLD and self._view.last_word:
            self.note(self._view.last_word)

    def _draw(self) -> RenderableType:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))  # of Text: a note beside it prints without markup, and the table with it
        elapsed_s = self._clock() - self._opened_at_s
        for name, words in live_rows(self._plan, self._view, self._phase, elapsed_s=elapsed_s, spent_usd=self._spent_usd()):
            table.add_row(Text(name, style="dim"), Text(words))
        left_s = max(0.0, self._deadline_at_s() - self._clock())
        table.add_row(Text("deadline", style="dim"), Text(f"in {seconds_words(left_s)}"))
        return table


def live_rows(plan: Plan, view: View, phase: str, *, elapsed_s: float, spent_usd: Decimal) -> list[tuple[str, str]]:
    """What a person wants to know while it runs, name and words."""
    planned_bytes = plan.host.ram_peak_bytes if plan.gpu is None else plan.vram.process_peak_bytes
    rows = [
        ("phase", f"{phase}, {seconds_words(elapsed_s)} since the start (planned {seconds_words(plan.duration.wall_s.p50)})")
    ]
    if view.step:
        rows.append(("step", step_words(view)))
    if view.held_out:
        rows.append(("held-out loss", " → ".join(f"{loss:.4f}" for _, loss in view.held_out)))
    if view.memory_bytes is not None:
        over = ", over its plan" if view.memory_bytes > planned_bytes else ""
        rows.append(("memory", f"{bytes_words(view.memory_bytes)} of {bytes_words(planned_bytes)} planned{over}"))
    spent = spent_words(spent_usd, assumed=plan.offer.provider in OWN_MACHINES)
    rows.append(("spent", f"{spent} of {usd_words(Decimal(str(plan.cost.total_usd.p50)))} planned"))
    return rows


def outlasting_words(view: View, *, left_s: float) -> str:
    """That the deadline comes before the end of the training, and what comes home then. For a view that outlasts it."""
    return (
        f"At this pace the training needs {seconds_words(view.eta_s or 0.0)} more, and the deadline comes in "
        f"{seconds_words(left_s)}: it will be cut short in time to save, and what is trained by then comes home."
    )


def evaluation_words(view: View, seconds: float | None) -> str:
    """The newest held-out loss, how well classes are told apart, and how long finding it took: on a small job that is most of
    the time.
    """
    step, loss = view.held_out[-1]
    took = "" if seconds is None else f", judged in {seconds_words(seconds)}"
    figures = "".join(f", {METRICS[name]} {found:.3f}" for name, found in view.metrics.items())
    return f"held-out loss {loss:.4f} at step {step}{figures}{took}"


def step_words(view: View) -> str:
    """One line about training: step, loss, speed, time to go."""
    of = f"/{view.num_steps}" if view.num_steps else ""
    words = [f"step {view.step}{of}"]
    words += [f"loss {view.loss:.4f}"] if view.loss is not None else []
    words += [f"{view.tokens_per_s:,.0f} tokens/s"] if view.tokens_per_s is not None else []
    if view.step == view.num_steps:
        words.append("judging and saving follow")
    elif view.eta_s is not None:
        words.append(f"{seconds_words(view.eta_s)} to go")
    return ", ".join(words)
