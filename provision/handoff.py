"""Plan → JobSpec: what the box is told, and where each file from home will lie there. It lists folders of files to send, and
touches nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath

import msgspec

from planner.estimators.time.links import disk_bytes_per_s, host_bytes_per_s
from planner.plan import Plan
from provision.prepare.inputs import BaseModel
from provision.prepare.inputs.parts import placed
from remote.contract import NOTICES, DataSource, JobSpec, Loop, ModelSource, Phase, disk_blocks, with_template_at

Place = Callable[[str, str], str]  # home path and a name → path on the box

AFTER_TRAINING = (Phase.SAVE, Phase.FETCH, Phase.TEARDOWN)
INPUTS = "inputs"  # folder beside job.json
# assumed: fetching an adapter and tearing down take this long where the plan knows no better
LEAST_RESERVE_S = 30.0
RESERVE_SHARE = 0.1  # assumed: of the time to the deadline, no more than this is kept back for what may go slowly


class Handoff(msgspec.Struct, frozen=True, kw_only=True):
    """The job, and the files that must be on the box before it starts (home path → path on the box)."""

    spec: JobSpec
    files: dict[str, str]


def hand_off(
    plan: Plan,
    base: BaseModel,
    *,
    run_id: str,
    job_folder: str,
    billed_since_s: float,
    started_at_s: float,
    deadline_at_s: float,
) -> Handoff:
    """Everything that the trainer needs to know, with the paths of a box whose job folder is `job_folder`. The box has been
    billed since `billed_since_s`, and the trainer starts at `started_at_s`: boot and environment lie between.

    The trainer's deadline lies before the box's: what is left is for fetching the adapter and for the teardown.
    """
    files: dict[str, str] = {}

    def place(path: str, name: str) -> str:
        there = str(PurePosixPath(job_folder, INPUTS, name))
        files[path] = there
        return there

    def rows_at(path: str, name: str, more: tuple[str, ...] = ()) -> str:
        there, found = placed(path, name, more)
        for home, part in found.items():
            place(home, part)
        return str(PurePosixPath(job_folder, INPUTS, there))

    data = plan.request.data
    if data.path is None:
        raise ValueError("a plan without a data file can't be run")
    reading = with_template_at(data.reading, lambda path: place(path, f"template/{Path(path).name}"))
    on_cpu = plan.gpu is None
    spec = JobSpec(
        run_id=run_id,
        model=_model_source(plan, base, place),
        data=DataSource(
            train=rows_at(data.path, "train", data.more),
            name=data_words(data.path, data.more),
            held_out=rows_at(data.held_out_path, "held_out") if data.held_out_path else None,
            held_out_rows=data.held_out_rows,
            **msgspec.structs.asdict(reading),
        ),
        strategy=plan.strategy,
        loop=_loop(plan.request.loop, place),
        task=plan.request.task,
        device="cpu" if on_cpu else "cuda",
        deadline_at_s=trainer_deadline_s(plan, started_at_s=started_at_s, deadline_at_s=deadline_at_s),
        planned_peak_bytes=plan.host.ram_peak_bytes if on_cpu else plan.vram.process_peak_bytes,
        planned_ram_bytes=None if on_cpu else plan.host.ram_peak_bytes,
        planned_step_s=plan.duration.step_s.p50,
        planned_link_bytes_per_s=None if plan.gpu is None else host_bytes_per_s(plan.gpu),
        planned_read_bytes_per_s=disk_bytes_per_s(plan.offer.provider).p50 if disk_blocks(plan.strategy) else None,
        planned_disk_bytes=plan.host.written_bytes,
        planned_checkpoint_bytes=plan.host.checkpoint_bytes,
        usd_per_hour=float(plan.offer.usd_per_hour),
        billed_since_s=billed_since_s,
        notice_from=NOTICES.get(plan.offer.provider) if plan.offer.purchase == "spot" else None,
    )
    return Handoff(spec=spec, files=files)


def data_words(path: str, more: tuple[str, ...]) -> str:
    """What the data is called: by the name of its file or folder, or of the first of several."""
    return Path(path).name if not more else f"{Path(path).name} and {len(more)} more"


def trainer_deadline_s(plan: Plan, *, started_at_s: float, deadline_at_s: float) -> float:
    """When the trainer must be saved and gone: the box's deadline less what bringing home and tearing down may take.

    That is kept whole as planned at p50; what p90 adds gives way where it is much of a short run.
    """
    after = [plan.duration.phase_s[phase] for phase in AFTER_TRAINING if phase in plan.duration.phase_s]
    slow_s = max(sum(seconds.p90 for seconds in after), LEAST_RESERVE_S)
    reserve_s = max(sum(seconds.p50 for seconds in after), min(slow_s, RESERVE_SHARE * (deadline_at_s - started_at_s)))
    return deadline_at_s - reserve_s


def _model_source(plan: Plan, base: BaseModel, place: Place) -> ModelSource:
    if base.path is None:
        return ModelSource(
            kind=base.kind, location=base.hub_id or "", name=base.hub_id, revision=base.revision, sha256=base.sha256
        )
    name = Path(base.path).name
    return ModelSource(kind=base.kind, location=place(base.path, f"base/{name}"), name=plan.request.model)


def _loop(loop: Loop, place: Place) -> Loop:
    if loop.init_adapter is None:
        return loop
    return msgspec.structs.replace(loop, init_adapter=place(loop.init_adapter, "init_adapter"))
