"""Whether a checkpoint is of the job that wants to go on from it: what it learns, of what, and how. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from remote.contract import DataSource, JobSpec, Loop, Task, Value

# What may differ between two starts of a job: where things lie on this machine, how often it saves, when it gives up.
MAY_DIFFER: Final = frozenset(
    {
        *("train", "held_out", "name", "init_adapter"),
        *("checkpoint_every_s", "checkpoint_every", "keep_checkpoints"),
        *("evaluations", "early_stopping_evaluations", "early_stopping_min_delta", "on_spike", "report_to"),
    }
)


class Learned(Value, frozen=True, kw_only=True):
    """What of a job decides what is learned, beside its strategy."""

    base: str  # as the user calls it
    revision: str | None
    task: Task
    data: DataSource
    loop: Loop


def learned_by(spec: JobSpec) -> Learned:
    """That of a job."""
    model = spec.model
    return Learned(base=model.name or model.location, revision=model.revision, task=spec.task, data=spec.data, loop=spec.loop)


def unlike(before: Learned, now: Learned) -> Iterator[tuple[str, Any, Any]]:
    """(what, as it was, as it is) of all that differs and may not."""
    parts: tuple[tuple[Value, Value], ...] = ((before, now), (before.data, now.data), (before.loop, now.loop))
    for one, other in parts:
        for name in one.__struct_fields__:
            was, is_now = getattr(one, name), getattr(other, name)
            if was != is_now and name not in MAY_DIFFER and not isinstance(was, Value):
                yield name, was, is_now
