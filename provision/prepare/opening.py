"""Before the first dollar: the run's directory, its key, its deadline, and the line in the ledger."""

from __future__ import annotations

import datetime as dt
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from planner.estimators.cost import disk_gib, volume_gib
from planner.estimators.host import least_ram_gib
from planner.plan import Plan
from planner.saved import write_plan
from planner.units import SECONDS_PER_HOUR
from provision.account.ledger import Ledger
from provision.account.lines import Opened
from provision.errors import BadInput, HomeFailed
from provision.home.installation import owner
from provision.home.places import Places, RunFolder
from provision.home.whole import at_home, write_whole
from provision.prepare.inputs import BaseModel
from provision.prepare.limits.deadline import allowed_s
from provision.prepare.limits.outlay import UNTOUCHED, Taken
from provision.prepare.versions import installed_versions
from provision.seam import Launch


class Agreed(msgspec.Struct, frozen=True, kw_only=True):
    """What is agreed to beside the plan."""

    host_key: str | None = None  # that a host of the user's has shown
    deadline_at_s: float | None = None  # instead of the one that follows from plan and budget
    alerts: tuple[str, ...] = ()  # whom the run tells
    alternatives: tuple[Plan, ...] = ()  # what may be rented where the plan's offer can't be had
    dearer: bool = False  # whether even at a much higher price
    taken: Taken = UNTOUCHED  # of the limits; and where its checkpoints go, which moves the deadline


NOTHING_BESIDE: Final = Agreed()


def open_run(
    plan: Plan,
    base: BaseModel,
    *,
    places: Places,
    ledger: Ledger,
    clock: Callable[[], float],
    agreed: Agreed = NOTHING_BESIDE,
) -> str:
    """Write down the intent and return the run's id. When this returns the ledger's line is on the disk."""
    from provision.ssh.keys import client_key  # needs SSH's packages; a plan is shown and judged without them

    now_s = clock()
    run_id = new_run_id(now_s)
    folder = places.run(run_id)
    try:
        folder.root.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise BadInput(f"{places.home} can't be written to: {error.strerror}.", hint="RENTUNE_HOME=FOLDER rentune …") from None
    deadline_s = now_s + allowed_s(plan, agreed.taken) if agreed.deadline_at_s is None else agreed.deadline_at_s
    with _whole_or_not(folder, ledger, run_id):
        key = client_key(folder.keys, run_id=run_id)
        launch = launch_of(
            plan, folder, run_id=run_id, public_key=key.public, deadline_at_s=deadline_s, host_key=agreed.host_key
        )
        write_whole(folder.plan, write_plan(plan).encode())
        write_whole(folder.alternatives, msgspec.json.encode(agreed.alternatives))
        write_whole(folder.base, msgspec.json.encode(base))
        write_whole(folder.launch, msgspec.json.encode(launch, enc_hook=str))
        if agreed.alerts:
            write_whole(folder.alerts, msgspec.json.encode(agreed.alerts))
        ledger.append(
            Opened(
                run_id=run_id,
                at_s=now_s,
                owner=launch.owner,
                provider=plan.offer.provider,
                region=plan.offer.region,
                instance_type=plan.offer.instance_type,
                model=plan.request.model,
                usd_per_hour=plan.offer.usd_per_hour,
                billing=plan.billing,
                max_usd=plan.request.budget.max_usd,
                deadline_at_s=deadline_s,
                tags=plan.request.tags,
                versions=installed_versions(),
                folder=str(folder.root),
                keep_box_on_failure=plan.request.keep.box_on_failure,
                lease_s=launch.lease_s,
                overruled=plan.request.overruled,
                dearer=agreed.dearer,
            )
        )
    return run_id


@contextmanager
def _whole_or_not(folder: RunFolder, ledger: Ledger, run_id: str) -> Iterator[None]:
    """Whatever goes wrong leaves no half of a run: without its line in the ledger nobody would find it, or its key. What home
    does not take is told.
    """
    try:
        with at_home(folder.root):
            yield
    except BaseException as error:
        if run_id not in ledger.runs():
            shutil.rmtree(folder.root, ignore_errors=True)
        if isinstance(error, HomeFailed):
            raise BadInput(f"{error} Nothing was rented.", hint=error.hint) from None
        raise


def launch_of(
    plan: Plan, folder: RunFolder, *, run_id: str, public_key: str, deadline_at_s: float, host_key: str | None = None
) -> Launch:
    """What the provisioner is told of a run of this plan, beside the offer."""
    return Launch(
        run_id=run_id,
        provider=plan.offer.provider,
        owner=owner(),
        folder=folder.root,
        public_key=public_key,
        deadline_at_s=deadline_at_s,
        tags=plan.request.tags,
        allow_from=plan.request.where.allow_from,
        disk_gib=disk_gib(plan.host, plan.billing),
        ram_gib=asked_ram_gib(plan),
        volume_name=plan.request.keep.volume_name,
        volume_gib=volume_gib(plan.host) if plan.request.keep.volume_name is not None else 0,
        lease_s=lease_s_of(plan),
        keep_environment=plan.request.keep.environment,
        region=plan.offer.region,
        user_at_host=plan.request.where.host,
        host_key=host_key,
    )


def lease_s_of(plan: Plan) -> float | None:
    """How long its box stands unrenewed; None where no lease was asked for."""
    hours = plan.request.budget.lease_hours
    return None if hours is None else hours * SECONDS_PER_HOUR


def asked_ram_gib(plan: Plan) -> int:
    """What the order must ask for; 0 where the machine's RAM is stated, and was held against the need already."""
    return least_ram_gib(plan.host.ram_peak_bytes) if plan.asks_ram else 0


def new_run_id(now_s: float) -> str:
    """Sorts by time, reads in a console, fits every cloud's names: 20261125-201530-a1b2."""
    return f"{dt.datetime.fromtimestamp(now_s, dt.UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
