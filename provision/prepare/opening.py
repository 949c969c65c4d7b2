"""Before the first dollar: the run's directory, its key, its deadline, and the line in the ledger."""

from __future__ import annotations

import datetime as dt
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from planner.asking.request import RequestError
from planner.estimators.cost import disk_gib, volume_gib
from planner.estimators.host import least_ram_gib
from planner.plan import Plan, read_plan, write_plan
from provision.account.ledger import Ledger
from provision.account.lines import UNREADABLE, Opened
from provision.account.runs import RunState
from provision.errors import BadInput, HomeFailed
from provision.home.installation import owner
from provision.home.places import Places, RunFolder
from provision.home.whole import at_home, write_whole
from provision.prepare.deadline import allowed_s
from provision.prepare.inputs import BaseModel
from provision.prepare.outlay import UNTOUCHED, Taken
from provision.prepare.versions import installed_versions
from provision.providers import ends_itself
from provision.provisioner import DEADLINE_GRACE_S, Box, Claim, Launch
from remote.contract import decode


def open_run(
    plan: Plan,
    base: BaseModel,
    *,
    places: Places,
    ledger: Ledger,
    clock: Callable[[], float],
    host_key: str | None = None,
    deadline_at_s: float | None = None,
    alerts: tuple[str, ...] = (),
    alternatives: tuple[Plan, ...] = (),
    dearer: bool = False,
    taken: Taken = UNTOUCHED,
) -> str:
    """Write down the intent and return the run's id. When this returns the ledger's line is on the disk.

    `deadline_at_s` overrules the one that follows from plan and budget, and from where its checkpoints go (`taken`). `alerts`:
    whom the run tells. `alternatives`: what may be rented where the plan's offer can't be had, `dearer` whether even at a much
    higher price.
    """
    from provision.ssh.keys import client_key  # needs SSH's packages; a plan is shown and judged without them

    now_s = clock()
    run_id = new_run_id(now_s)
    folder = places.run(run_id)
    try:
        folder.root.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise BadInput(f"{places.home} can't be written to: {error.strerror}.", hint="RENTUNE_HOME=FOLDER rentune …") from None
    deadline_s = deadline_at_s if deadline_at_s is not None else now_s + allowed_s(plan, taken)
    with _whole_or_not(folder, ledger, run_id):
        key = client_key(folder.keys, run_id=run_id)
        launch = launch_of(plan, folder, run_id=run_id, public_key=key.public, deadline_at_s=deadline_s, host_key=host_key)
        write_whole(folder.plan, write_plan(plan).encode())
        write_whole(folder.alternatives, msgspec.json.encode(alternatives))
        write_whole(folder.base, msgspec.json.encode(base))
        write_whole(folder.launch, msgspec.json.encode(launch, enc_hook=str))
        if alerts:
            write_whole(folder.alerts, msgspec.json.encode(alerts))
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
                overruled=plan.request.overruled,
                dearer=dearer,
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
        keep_environment=plan.request.keep.environment,
        region=plan.offer.region,
        user_at_host=plan.request.where.host,
        host_key=host_key,
    )


def asked_ram_gib(plan: Plan) -> int:
    """What the order must ask for; 0 where the machine's RAM is stated, and was held against the need already."""
    return least_ram_gib(plan.host.ram_peak_bytes) if plan.asks_ram else 0


def new_run_id(now_s: float) -> str:
    """Sorts by time, reads in a console, fits every cloud's names: 20261125-201530-a1b2."""
    return f"{dt.datetime.fromtimestamp(now_s, dt.UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def lost_papers(folder: RunFolder) -> tuple[Path, ...]:
    """Which of the files that a run can't go on without are missing or can't be read."""
    readers: dict[Path, Callable[[], object]] = {
        folder.plan: lambda: read_plan(folder.plan.read_text(), name=str(folder.plan)),
        folder.base: lambda: read_base(folder),
        folder.launch: lambda: read_launch(folder),
    }
    return tuple(paper for paper, read in readers.items() if not _can(read))


def _can(read: Callable[[], object]) -> bool:
    try:
        read()
    except (OSError, RequestError, *UNREADABLE):
        return False
    return True


def read_claim(folder: RunFolder, state: RunState) -> Claim:
    """Where the run's box is or was: as the ledger has it, and of a host of the user's also how it was launched."""
    rental, box = state.rental, state.box
    of_user = box if box is not None and not box.ours else None
    user_at_host, host_key = (_address(of_user), of_user.host_key) if of_user else (None, None)
    with suppress(OSError, *UNREADABLE):
        launch = read_launch(folder)
        user_at_host, host_key = launch.user_at_host, launch.host_key or host_key
    return Claim(
        run_id=state.run_id,
        provider=state.provider,
        region=rental.offer.region if rental else state.opened.region,
        folder=folder.root,
        opened_in=Path(state.opened.folder),
        user_at_host=user_at_host,
        host_key=host_key,
        account=rental.account if rental else None,
        known=frozenset(each.id for each in box.resources) if box is not None and state.may_bill else frozenset(),
        gone_by_s=state.deadline_at_s + DEADLINE_GRACE_S if ends_itself(state.provider) else None,
    )


def read_launch(folder: RunFolder) -> Launch:
    """What the provisioner was to be told first. Raises OSError, or what the decoder says of damaged bytes.

    Its folder is the one that it lies in: on another machine that has another name.
    """
    launch = msgspec.json.decode(folder.launch.read_bytes(), type=Launch, dec_hook=_path)
    return msgspec.structs.replace(launch, folder=folder.root)


def read_alternatives(folder: RunFolder) -> tuple[Plan, ...]:
    """What may be rented instead; nothing where that was lost."""
    with suppress(OSError, msgspec.DecodeError):
        return decode(folder.alternatives.read_bytes(), tuple[Plan, ...])
    return ()


def _address(box: Box) -> str:
    host = f"[{box.host}]" if ":" in box.host else box.host
    return f"{box.user}@{host}:{box.port}"


def _path(kind: type, text: str) -> Path:
    """The one field of a Launch that JSON has no type for."""
    if kind is not Path:
        raise NotImplementedError(kind)
    return Path(text)


def read_base(folder: RunFolder) -> BaseModel:
    return decode(folder.base.read_bytes(), BaseModel)
