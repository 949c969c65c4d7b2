"""What `rentune estimate` can show beside its answer: the reasons, the course of a step, a real step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from catalogs.bases.models import resolve_model
from catalogs.catalog import Catalog
from catalogs.user_file import as_said
from catalogs.written import require_writable, write_beside
from planner.asking.case import read_within_reach, strategy_of
from planner.course import Course, course_of
from planner.estimate import estimate
from planner.estimators.engine import Tracing
from planner.explain import Explanation, explain
from provision.errors import BadInput
from provision.prepare.measuring import measure_here
from provision.report.areas import RENDERERS
from remote.measured import StepMeasured


def explanation(asked: dict[str, Any], catalog: Catalog, kept: Path, tracing: Tracing) -> Explanation:
    """Of a case that was answered. `kept`: the folder of traces; `tracing`: entered while a step is traced."""
    case = read_within_reach(asked, base=Path.cwd())
    made = estimate(case, catalog, base=Path.cwd(), cache=kept, tracing=tracing)
    return explain(made, case, catalog, base=Path.cwd(), cache=kept, tracing=tracing)


def measurement(asked: dict[str, Any]) -> StepMeasured:
    """One real step of the case on this machine's GPU."""
    case = read_within_reach(asked, base=Path.cwd())
    return measure_here(dict(resolve_model(case.model, base=Path.cwd()).config), strategy_of(case), case.task)


def renderer(plot: str) -> Callable[[Course], str]:
    """What draws a file of this name. Raises BadInput for a suffix that nothing draws, or a place where it can't be written."""
    suffix = Path(plot).suffix.lower()
    if suffix not in RENDERERS:
        raise BadInput(f"--plot draws {' and '.join(RENDERERS)} files, not {as_said(plot)}.", hint="--plot memory.svg")
    try:
        require_writable(Path(plot))
    except OSError as error:
        raise _unwritten(plot, error) from None
    return RENDERERS[suffix]


def _unwritten(plot: str, error: OSError) -> BadInput:
    return BadInput(f"{as_said(plot)} can't be written: {error.strerror}.", hint="name another file")


def write_plot(
    asked: dict[str, Any], catalog: Catalog, plot: str, draw: Callable[[Course], str], tracing: Tracing, *, required_bytes: int
) -> str:
    """Draw the course of a step into a file, beside what the answer requires of the card, and say from what."""
    course = course_of(read_within_reach(asked, base=Path.cwd()), catalog, base=Path.cwd(), tracing=tracing)
    course = msgspec.structs.replace(course, required_bytes=required_bytes)
    try:
        write_beside(Path(plot), draw(course).encode())
    except OSError as error:
        raise _unwritten(plot, error) from None
    how = "from a traced step" if course.untraced is None else f"from the closed form, since {course.untraced}"
    return f"Plot: {plot}, {how}."
