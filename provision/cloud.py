"""The provisioner for every cloud that Pulumi drives: the engine creates and destroys, the cloud itself is believed.

`up` buys only when the cloud, asked by tag, lists nothing of the run. `destroy` ends what the state knows, then what
the tag finds, and calls it destroyed when the cloud has listed nothing twice, a grace apart, because lists lag.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from catalogs.hardware import Offer
from provision.bootstrap import FirstBoot, render_user_data
from provision.engine.build import plugin_binary, plugins_folder
from provision.errors import MissingPart, ProvisionError, Refused
from provision.keys import make_key
from provision.places import Places, RunFolder
from provision.programs import Cloud
from provision.programs.order import Image, Order, checked_cidrs, resource_name, run_tags
from provision.provisioner import Answer, Box, Launch, Owned, Resource, ResourceEnd, Teardown
from provision.stack import Recorded, Stack, State, remove_engine_files

GRACE_S: Final = 65.0  # derived: lists of AWS lag up to a minute (skypilot-org/skypilot, issue 4431)
TEARDOWN_S: Final = 600.0  # assumed: a GPU instance shuts down in one to five minutes
PAUSE_S: Final = 5.0  # between two looks at what does not go away
SECRET_VARIABLES: Final = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
SSH_PORT: Final = 22
INSTALL: Final = "rentune doctor --install"

Found = dict[tuple[str, str], Resource]


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """What a later process must know to find the run at the cloud; written before the engine is first called."""

    region: str
    plugin_version: str  # a stack needs exactly the plugin that it was made with
    host_key: str  # public


class PulumiProvisioner:
    """A `Provisioner` for one cloud. Edges come as arguments; `engine` is None where none is built yet.

    `regions` is where to look for what no folder tells the region of; without it, everywhere the account may go.

    One process drives one run at a time (see provision.stack).
    """

    def __init__(
        self,
        name: str,
        cloud: Cloud,
        *,
        places: Places,
        engine: Path | None,
        environment: Mapping[str, str],
        image: Image | None = None,
        regions: tuple[str, ...] = (),
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        grace_s: float = GRACE_S,
        teardown_s: float = TEARDOWN_S,
    ) -> None:
        self.name = name
        self.cloud = cloud
        self.places = places
        self.engine = engine
        self.environment = environment
        self.image = image or cloud.IMAGE
        self.regions = regions
        self.clock = clock
        self.sleep = sleep
        self.grace_s = grace_s
        self.teardown_s = teardown_s

    # ── up ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def up(self, offer: Offer, launch: Launch) -> Box:
        """One instance of the offer. A run whose box stands already gets that box; it never gets a second one."""
        if offer.region == "*":
            raise Refused(f"{offer.key} names no region.", hint="Choose one with --region.")
        stack = self._stack(launch)
        stack.recover()
        if box := self._standing_box(stack, offer, launch):
            return box
        self._refuse_leftovers(offer.region, launch.run_id)
        order = self._order(offer, launch)
        self._note_where(launch, order)
        try:
            stack.up(self.cloud.program(order))
            state = self._require_whole(stack.state())
        except ProvisionError as error:
            left = self._left(offer.region, launch.run_id)
            raise ProvisionError(f"{error} {left}", hint=f"rentune down {launch.run_id}") from None
        return self._box(launch, state)

    def _stack(self, launch: Launch) -> Stack:
        version = self.cloud.plugin_version()
        if self.engine is None:
            raise MissingPart("The Pulumi engine is not built yet.", hint=INSTALL)
        if not plugin_binary(self.places, self.cloud.PLUGIN, version).exists():
            raise MissingPart(f"Pulumi's plugin for {self.name}, version {version}, is missing.", hint=INSTALL)
        return Stack(
            RunFolder(launch.folder).engine,
            resource_name(launch.run_id),
            binary=self.engine,
            plugins=plugins_folder(self.places),
            environment=self.environment,
            hidden=tuple(self.environment.get(name, "") for name in SECRET_VARIABLES),
        )

    def _standing_box(self, stack: Stack, offer: Offer, launch: Launch) -> Box | None:
        """The box that an earlier controller created and recorded, if the cloud still lists it."""
        if self._missing(state := stack.state()) or state.pending:
            return None
        listed = self.cloud.owned(offer.region, launch.run_id, self.environment)
        stands = any(resource.kind == "instance" for resource in listed.resources)
        return self._box(launch, state) if stands else None

    def _refuse_leftovers(self, region: str, run_id: str) -> None:
        listed = self.cloud.owned(region, run_id, self.environment)
        if listed.complete is not Answer.YES:
            raise ProvisionError(f"{self.name} can't be asked what it holds, so nothing is bought: {listed.message}")
        if listed.resources:
            raise ProvisionError(
                f"{self.name} already lists {_names(listed.resources)} of this run; nothing more is bought.",
                hint=f"rentune down {run_id}",
            )

    def _order(self, offer: Offer, launch: Launch) -> Order:
        tags = run_tags(offer, launch)
        allowed = checked_cidrs(launch.allow_from or (self.cloud.caller_address(),))
        host_private, host_public = _one_time_host_key(RunFolder(launch.folder).engine, launch.run_id)
        boot = FirstBoot(
            user=self.image.user,
            folder=self._box_folder(launch.run_id),
            public_key=launch.public_key,
            host_key_private=host_private,
            host_key_public=host_public,
            deadline_at_s=launch.deadline_at_s,
            now_s=self.clock(),
        )
        return Order(
            name=resource_name(launch.run_id),
            region=offer.region,
            instance_type=offer.instance_type,
            max_usd_per_hour=offer.usd_per_hour if offer.purchase == "spot" else None,
            disk_gib=launch.disk_gib,
            image=self.image,
            public_key=launch.public_key,
            host_key=host_public,
            user_data=render_user_data(boot),
            allow_from=allowed,
            tags=tags,
        )

    def _note_where(self, launch: Launch, order: Order) -> None:
        where = Where(region=order.region, plugin_version=self.cloud.plugin_version(), host_key=order.host_key)
        _where_file(launch).write_bytes(msgspec.json.encode(where))

    def _require_whole(self, state: State) -> State:
        if state.pending:
            raise ProvisionError(f"The engine left {len(state.pending)} operations unfinished.")
        if missing := self._missing(state):
            raise ProvisionError(f"The engine recorded no {', '.join(missing)}.")
        return state

    def _missing(self, state: State) -> list[str]:
        recorded = {resource.type for resource in state.resources if resource.id}
        return [kind for type, kind in self.cloud.KINDS.items() if type not in recorded]

    def _left(self, region: str, run_id: str) -> str:
        listed = self.cloud.owned(region, run_id, self.environment)
        if listed.complete is not Answer.YES:
            return f"Whether something was left behind could not be seen: {listed.message}."
        return f"Left at {self.name}: {_names(listed.resources)}." if listed.resources else "Nothing was left behind."

    def _box(self, launch: Launch, state: State) -> Box:
        """From the state, not from the program's exports: those are written last, and are lost with the controller."""
        where = _read_where(launch)
        type, output = self.cloud.ADDRESS
        [host] = [resource.outputs.get(output) for resource in state.resources if resource.type == type]
        if not host:
            raise ProvisionError(f"The box has no public address in {where.region}.", hint=f"rentune down {launch.run_id}")
        return Box(
            run_id=launch.run_id,
            provider=self.name,
            host=host,
            port=SSH_PORT,
            user=self.image.user,
            host_key=where.host_key,
            folder=self._box_folder(launch.run_id),
            replace_host_key=True,
            resources=tuple(self._resource(where.region, launch, resource) for resource in state.resources),
        )

    def _box_folder(self, run_id: str) -> str:
        return f"/home/{self.image.user}/{resource_name(run_id)}"

    # ── destroy ────────────────────────────────────────────────────────────────────────────────────────────────────

    def destroy(self, launch: Launch) -> Teardown:
        """By state, then by tag, then looked at twice."""
        found: Found = {}
        troubles: list[str] = []
        try:
            regions = self._regions_of(launch)
            self._destroy_by_state(launch, regions, found, troubles)
            listed = self._destroy_by_tag(regions, launch.run_id, found, troubles)
        except ProvisionError as error:
            listed = Owned(resources=(), complete=Answer.UNKNOWN, message=str(error))
        teardown = self._verdict(launch, found, listed, troubles)
        if teardown.clean:
            remove_engine_files(RunFolder(launch.folder).engine)
        return teardown

    def _regions_of(self, launch: Launch) -> tuple[str, ...]:
        """The run's region; all of them when its folder is lost."""
        try:
            return (_read_where(launch).region,)
        except (FileNotFoundError, msgspec.DecodeError):
            return self._all_regions()

    def _all_regions(self) -> tuple[str, ...]:
        return self.regions or self.cloud.regions(self.environment)

    def _destroy_by_state(self, launch: Launch, regions: tuple[str, ...], found: Found, troubles: list[str]) -> None:
        if not (RunFolder(launch.folder).engine / "state").exists():
            return
        try:
            stack = self._stack(launch)
            stack.recover()
            state = stack.state()
            self._remember(found, (self._resource(regions[0], launch, recorded) for recorded in state.resources))
            if state.pending:
                stack.adopt(self._ids_by_type(regions, launch.run_id))
                stack.refresh()
            if not state.empty:
                stack.destroy()
                _require_empty(stack.state())
        except (ProvisionError, MissingPart) as error:
            troubles.append(str(error))  # the tag decides; this only explains

    def _resource(self, region: str, launch: Launch, recorded: Recorded) -> Resource:
        kind = self.cloud.KINDS[recorded.type]
        bills = kind == "instance"
        return Resource(kind=kind, id=recorded.id, region=region, run_id=launch.run_id, owner=launch.owner, bills=bills)

    def _ids_by_type(self, regions: tuple[str, ...], run_id: str) -> dict[str, str]:
        ids = {resource.kind: resource.id for resource in self._listed(regions, run_id).resources}
        return {type: ids[kind] for type, kind in self.cloud.KINDS.items() if kind in ids}

    def _destroy_by_tag(self, regions: tuple[str, ...], run_id: str, found: Found, troubles: list[str]) -> Owned:
        """End every stray until two listings, the grace apart, show none; the last listing when patience is over."""
        ends_at_s = self.clock() + self.teardown_s
        quiet = False
        while True:
            listed = self._listed(regions, run_id)
            self._remember(found, listed.resources)
            empty = listed.complete is Answer.YES and not listed.resources
            if (empty and quiet) or self.clock() >= ends_at_s:
                return listed
            quiet = empty
            self._end_strays(listed.resources, troubles)
            self.sleep(self.grace_s if empty else PAUSE_S)

    def _end_strays(self, resources: Iterable[Resource], troubles: list[str]) -> None:
        for resource in resources:
            try:
                self.cloud.destroy_stray(resource, self.environment)
            except ProvisionError as error:
                troubles.append(str(error))

    def _remember(self, found: Found, resources: Iterable[Resource]) -> None:
        found.update({(resource.kind, resource.id): resource for resource in resources})

    def _verdict(self, launch: Launch, found: Found, listed: Owned, troubles: list[str]) -> Teardown:
        still = {(resource.kind, resource.id) for resource in listed.resources}
        unless_listed = Answer.YES if listed.complete is Answer.YES else Answer.UNKNOWN
        ends = tuple(
            ResourceEnd(resource=resource, gone=Answer.NO if key in still else unless_listed, at_s=self.clock())
            for key, resource in found.items()
        )
        command = f"rentune down {launch.run_id}"
        why = f" ({'; '.join(dict.fromkeys(troubles))})" if troubles else ""
        if still:
            text = f"{self.name} still lists {_names(listed.resources)}{why}."
            return Teardown(run_id=launch.run_id, verdict="orphaned", resources=ends, message=text, command=command)
        if listed.complete is not Answer.YES:
            text = f"{self.name} could not be asked what is left: {listed.message}{why}."
            return Teardown(run_id=launch.run_id, verdict="unknown", resources=ends, message=text, command=command)
        text = f"{self.name} lists nothing of this run any more, asked twice {self.grace_s:.0f} s apart."
        return Teardown(run_id=launch.run_id, verdict="destroyed", resources=ends, message=text)

    # ── probes ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def owned(self, tag: str | None = None) -> Owned:
        """Asked of every region that the account may use, at once."""
        try:
            regions = self._all_regions()
        except ProvisionError as error:
            return Owned(resources=(), complete=Answer.UNKNOWN, message=str(error))
        return self._listed(regions, tag)

    def _listed(self, regions: tuple[str, ...], tag: str | None) -> Owned:
        with ThreadPoolExecutor(max_workers=8) as pool:
            answers = list(pool.map(lambda region: self.cloud.owned(region, tag, self.environment), regions))
        unseen = [answer.message for answer in answers if answer.complete is not Answer.YES]
        return Owned(
            resources=tuple(resource for answer in answers for resource in answer.resources),
            complete=Answer.UNKNOWN if unseen else Answer.YES,
            message="; ".join(unseen),
        )

    def console(self, launch: Launch) -> str:
        """The boot log of the run's instance."""
        instances = (r for r in self._listed(self._regions_of(launch), launch.run_id).resources if r.kind == "instance")
        return "\n".join(self.cloud.console(instance, self.environment) for instance in instances)


def _where_file(launch: Launch) -> Path:
    return RunFolder(launch.folder).engine / "where.json"


def _read_where(launch: Launch) -> Where:
    return msgspec.json.decode(_where_file(launch).read_bytes(), type=Where)


def _one_time_host_key(folder: Path, run_id: str) -> tuple[str, str]:
    """A fresh host key as text; on disk only for the moment of making it, for after the first contact it is dead."""
    path = folder / "host_key"
    for file in (path, path.with_suffix(".pub")):
        file.unlink(missing_ok=True)
    pair = make_key(path, comment=resource_name(run_id))
    private = path.read_text()
    for file in (path, path.with_suffix(".pub")):
        file.unlink(missing_ok=True)
    return private, pair.public


def _require_empty(state: State) -> None:
    if not state.empty:
        left = f"{len(state.resources)} resources and {len(state.pending)} unfinished operations"
        raise ProvisionError(f"the state still holds {left}")


def _names(resources: Iterable[Resource]) -> str:
    return ", ".join(f"{resource.kind} {resource.id}" for resource in resources)
