"""What was a job file's choice and is another now: options asked for something else, so the planner has chosen anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from catalogs.failure import KeyPath
from catalogs.user_file import shortened
from planner.plan import Plan
from planner.report.job_file import pinned

TAKE_OFF: Final = "take the mark off a line of yours"


def anew_words(dropped: Mapping[KeyPath, Any], plan: Plan, *, job: str) -> str | None:
    """Which lines of the training that the file marks as the planner's choice say something else than this plan does: somebody
    may have changed one and left its mark. None where all came to the same.
    """
    training = pinned(plan).training
    of_training = {path[1]: was for path, was in dropped.items() if path[0] == "training"}
    changed = [
        f"{key} {_shown(training.get(str(key)))} (there {_shown(was)})"
        for key, was in of_training.items()
        if _plain(was) != _plain(training.get(str(key)))
    ]
    if not changed:
        return None
    return f"{shortened(job)} marks lines as the planner's choice, and they were chosen anew: {', '.join(changed)}; {TAKE_OFF}"


def _plain(value: Any) -> Any:
    return sorted(map(str, value)) if isinstance(value, list | tuple) else value


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "+".join(map(str, value))
    return "left out" if value is None else str(value)
