"""The provisioner for every cloud that Pulumi drives: the engine creates and destroys, the cloud itself is believed.

`up` buys only when the cloud, asked by tag, lists nothing of the run. `destroy` ends what the state knows, then what
the tag finds, and calls it destroyed when the cloud has listed nothing twice, a grace apart, because lists lag.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from catalogs.compiled import read_compiled
from catalogs.hardware import ANYWHERE, Offer
from provision.clouds.drivers import misfit
from provision.clouds.engine.where import plugin_binary, plugins_folder
from provision.clouds.first_words import LOOKS, box_folder, first_words, lease_of
from provision.clouds.inventory import Inventory, Notes, names_of, verdict_of
from provision.clouds.patience import OPERATION_S, PATIENCE, Patience
from provision.clouds.preview import WouldBe, would_be
from provision.clouds.programs import Cloud, plugin_version
from provision.clouds.programs.order import (
    SSH_PORT,
    Image,
    KeptVolume,
    Order,
    checked_cidrs,
    resource_name,
    run_tags,
)
from provision.clouds.refusals import read_refusal
from provision.clouds.reuse import CACHE, kept_volume
from provision.clouds.runner import PATIENCE_S as ENGINE_PATIENCE_S
from provision.clouds.stack import Recorded, Stack, State, remove_engine_files
from provision.clouds.whose import in_doubt, is_id, other_account_words, same_account, unproven_words
from provision.errors import (
    ControlLost,
    Declined,
    MissingPart,
    NotOrdered,
    ProvisionError,
    Reason,
    Refused,
    RentuneError,
    Scope,
)
from provision.home.installation import installation_id
from provision.home.places import Places, RunFolder
from provision.provisioner import (
    MACHINE,
    SET_CLOCK,
    Answer,
    Box,
    Claim,
    InCharge,
    Launch,
    Layer,
    Owned,
    Resource,
    Teardown,
    clock_trouble,
    unshared,
)
from provision.redact import redact

# Derived: an engine that outlived its controller is waited for, then one reads back and one destroys.
ENGINE_S: Final = ENGINE_PATIENCE_S[0] + 3 * sum(ENGINE_PATIENCE_S) + 2 * OPERATION_S
INSTALL: Final = "rentune doctor --install"


class PulumiProvisioner:
    """A `Provisioner` for one cloud. Edges come as arguments; `engine` is None where none is built yet.

    `regions` is where to look for what no folder tells the region of; without it, everywhere the account may go.

    One process drives one run at a time (see provision.clouds.stack).
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
        patience: Patience = PATIENCE,
    ) -> None:
        self.name = name
        self.cloud = cloud
        self.places = places
        self.engine = engine
        self.environment = environment
        self.image = image or cloud.IMAGE
        self.regions = regions
        self.patience = patience
        self.list_lag_s = patience.grace_s
        self.look = LOOKS[self.image.told_by](leased=lease_of(cloud) is not None)
        self.worst_teardown_s = ENGINE_S + patience.teardown_s + patience.grace_s
        self.inventory = Inventory(cloud, environment, patience)
        self._account: str | None = None

    def account(self) -> str | None:
        """Asked until it is told: no other one's credentials come to this process later."""
        if self._account is None:
            try:
                self._account = self.cloud.account(self.environment)
            except Exception:  # noqa: BLE001 - whoever can't be told, by an SDK either, is not known
                return None
        return self._account

    def _elsewhere(self, claim: Claim) -> str | None:
        """That the run is another account's, in a sentence; None where it is not, or nobody knows."""
        return other_account_words(self.name, claim.run_id, claim.account, self.account())

    # ── up ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def preview(self, offer: Offer, launch: Launch) -> tuple[WouldBe, ...]:
        """What `up` would create. The cloud is asked what the program must know; nothing is made. Raises ProvisionError."""
        self._require_orderable(offer)
        stack = self._stack(launch, operation_s=self.patience.create_s)
        order = self._order(offer, launch)
        try:
            foreseen = stack.preview(self.cloud.program(order))
        except Declined as error:
            raise read_refusal(self.cloud.REFUSALS, error, cloud=self.name) from None
        return tuple(would_be(each, self._kinds[each.type]) for each in foreseen)

    def up(self, offer: Offer, launch: Launch) -> Box:
        """One instance of the offer; refused while state or cloud knows of anything of this run."""
        self._require_orderable(offer)
        stack = self._stack(launch, operation_s=self.patience.create_s)
        stack.recover()
        ahead_s = self._refuse_leftovers(stack.state(), offer.region, launch.run_id)
        order = self._order(offer, launch, ahead_s=ahead_s)
        try:
            stack.up(self.cloud.program(order))
            state = self._require_whole(stack.state(), order)
        except Declined as error:
            read = read_refusal(self.cloud.REFUSALS, error, cloud=self.name)
            left = self._left(offer.region, launch.run_id)
            message = f"{str(read).removesuffix('.')}. {left}"
            raise Declined(message, reason=read.reason, scope=read.scope, zone=read.zone) from None
        except ProvisionError as error:
            left = self._left(offer.region, launch.run_id)
            raise ProvisionError(f"{str(error).removesuffix('.')}. {left}", hint=f"rentune down {launch.run_id}") from None
        return self._box(order, launch, state)

    def _require_orderable(self, offer: Offer) -> None:
        """Raises Refused for an offer without a region, Declined where the image's driver is none for its cards.

        Another type may have others.
        """
        if offer.region == ANYWHERE and offer.region not in self._all_regions():
            raise Refused(f"{offer.key} names no region.", hint="Choose one with --region.")
        if offer.gpu is None:
            return
        image = self.cloud.image_of(offer.instance_type, self.image)
        if (why := misfit(offer, image, read_compiled(self.places.catalog).gpus)) is not None:
            raise Declined(f"{offer.key} is not bought: {why}.", reason=Reason.HOST, scope=Scope.INSTANCE_TYPE)

    def _stack(self, claim: Claim, *, operation_s: float = OPERATION_S) -> Stack:
        if self.engine is None:
            raise MissingPart("The Pulumi engine is not built yet.", hint=INSTALL)
        self._require_plugin()
        return Stack(
            RunFolder(claim.folder).engine,
            resource_name(claim.run_id),
            binary=self.engine,
            plugins=plugins_folder(self.places),
            environment=self.environment,
            operation_s=operation_s,
        )

    def _require_plugin(self) -> None:
        if self.cloud.PLUGIN is None:
            return
        version = plugin_version(self.cloud.PLUGIN)
        if not plugin_binary(self.places, self.cloud.PLUGIN, version).exists():
            raise MissingPart(f"Pulumi's plugin for {self.name}, version {version}, is missing.", hint=INSTALL)

    def _refuse_leftovers(self, state: State, region: str, run_id: str) -> float:
        """How far this machine's clock is ahead of the cloud's. Raises NotOrdered where that can't be told, and ProvisionError
        where something of it may be there.
        """
        listed = self.inventory.listed((region,), run_id)
        if listed.complete is not Answer.YES:
            raise NotOrdered(f"{self.name} can't be asked what it holds, so nothing is bought: {listed.message.rstrip('.')}.")
        if (trouble := clock_trouble(listed.ahead_s)) is not None:  # the box's own deadline would be as far off
            raise Refused(f"{trouble} Nothing is bought.", hint=SET_CLOCK)
        if listed.resources or not state.empty:
            known = names_of(listed.resources) or "something that the state has and the cloud does not list"
            raise ProvisionError(f"{self.name} already has {known} of this run.", hint=f"rentune down {run_id}")
        return listed.ahead_s or 0.0

    def _order(self, offer: Offer, launch: Launch, *, ahead_s: float = 0.0) -> Order:
        """What is asked for. Its deadline is told by the cloud's clock, which is the box's, too."""
        launch = msgspec.structs.replace(launch, deadline_at_s=launch.deadline_at_s - ahead_s)
        tags = run_tags(offer, launch, installation_id(self.places))
        volume = self._volume(offer, launch, tags)
        now_s = self.inventory.patience.clocks.wall() - ahead_s
        told = first_words(launch, cloud=self.cloud, image=self.image, volume=volume, now_s=now_s)
        return Order(
            name=resource_name(launch.run_id),
            region=offer.region,
            full_zones=launch.full_zones,
            instance_type=offer.instance_type,
            max_usd_per_hour=offer.usd_per_hour if offer.purchase == "spot" else None,
            disk_gib=launch.disk_gib,
            ram_gib=launch.ram_gib,
            volume=volume,
            image=self.image,
            public_key=launch.public_key,
            host_key=told.host_key,
            user_data=told.user_data,
            deadline_at_s=launch.deadline_at_s,
            allow_from=self._admitted(launch),
            tags=tags,
        )

    def _admitted(self, launch: Launch) -> tuple[str, ...]:
        """The networks that may reach SSH; none where no cloud could keep anybody out."""
        if launch.allow_from:
            return checked_cidrs(launch.allow_from)
        here = self.cloud.caller_address()
        return () if here is None else checked_cidrs((here,))

    def _volume(self, offer: Offer, launch: Launch, tags: dict[str, str]) -> KeptVolume | None:
        """The one of that name, else one to be made; None where none is asked for. Raises as `kept_volume`."""
        if launch.volume_name is None:
            return None
        if self.cloud.VOLUMES is None:
            raise Refused(f"{self.name} keeps no volume.", hint="Leave --keep-volume out, or choose another provider.")
        return kept_volume(self.inventory.listed(self._all_regions(), None), offer, launch, tags)

    @property
    def _kinds(self) -> dict[str, str]:
        """Of all that its program may make."""
        return self.cloud.KINDS | (self.cloud.VOLUMES.kinds if self.cloud.VOLUMES else {})

    def _require_whole(self, state: State, order: Order) -> State:
        if state.pending:
            raise ProvisionError(f"The engine left {len(state.pending)} operations unfinished.")
        if missing := self._missing(state, order):
            raise ProvisionError(f"The engine recorded no {', '.join(missing)}.")
        return state

    def _missing(self, state: State, order: Order) -> list[str]:
        recorded = {resource.type for resource in state.resources if resource.id}
        fresh = order.volume is not None and order.volume.id is None
        expected = self._kinds if fresh else self.cloud.KINDS
        return [kind for type, kind in expected.items() if type not in recorded]

    def _left(self, region: str, run_id: str) -> str:
        """What had come of an order that failed. The teardown comes after it, so it is told as what was seen then."""
        listed = self.inventory.listed((region,), run_id)
        if listed.complete is not Answer.YES:
            return f"What had come of it by then could not be seen: {listed.message}."
        ending = f"{names_of(listed.resources)}, for the teardown to end" if listed.resources else "nothing else"
        if not listed.kept:
            return f"By then {self.name} listed {ending.removesuffix(' else')}."
        kept = f"{names_of(listed.kept)}, to be kept as asked, which ends with the run's box if it is blank"
        return f"By then {self.name} listed {kept}; and {ending}."

    def _box(self, order: Order, launch: Launch, state: State) -> Box:
        type, output, *port_output = self.cloud.ADDRESS
        [outputs] = [recorded.outputs for recorded in state.resources if recorded.type == type]
        host = _output(outputs, output)
        if not host:
            raise ProvisionError(f"The box has no public address in {order.region}.", hint=f"rentune down {launch.run_id}")
        return Box(
            run_id=launch.run_id,
            provider=self.name,
            host=host,
            port=int(outputs[port_output[0]]) if port_output else SSH_PORT,
            user=order.image.user,
            host_key=order.host_key,
            folder=box_folder(self.image, launch.run_id),
            cache=CACHE if order.volume else None,
            replace_host_key=True,
            resources=self.inventory.as_shown(self._ending(order.region, launch.run_id, state), order.region, launch.run_id),
        )

    def readmit(self, claim: Claim) -> str | None:
        """Let this machine's present address in, and no longer the one at launch; the address, for the user to read.

        None where everybody may come in. Raises ProvisionError when the cloud can't be asked.
        """
        address = self.cloud.caller_address()
        if address is None:
            return None
        if (why := self._elsewhere(claim)) is not None:
            raise ProvisionError(why)
        for region in self._regions_of(claim):
            self.cloud.admit(region, claim.run_id, (address,), self.environment)
        return address

    # ── destroy ────────────────────────────────────────────────────────────────────────────────────────────────────

    def destroy(self, claim: Claim, in_charge: InCharge = unshared) -> Teardown:
        """Looked at, then ended by state, then by tag, then looked at twice. A part of a run is ended by its ids alone.

        In another account than the run's nothing is ended, and nothing seen to be gone. Where nobody knows whether it is that
        one, the state is used only if something of the run is shown: in another, each id of it would answer that it is gone.
        """
        if (why := self._elsewhere(claim)) is not None:
            return Teardown.unknown(claim.run_id, why)
        notes, seen_before, doubtful = Notes(), False, False
        try:
            regions = self._regions_of(claim)
            doubtful = claim.own is None and self._is_doubtful(claim, regions)
            if claim.own is None and not doubtful:
                seen_before = self._look_first(claim, regions, notes)
                self._destroy_by_state(claim, regions, notes, in_charge)
            else:
                self._outlast_engine(claim, regions, notes)
            listed = self.inventory.end(regions, claim, notes, in_charge)
        except ControlLost:
            raise
        except RentuneError as error:
            listed = Owned(resources=(), complete=Answer.UNKNOWN, message=str(error))
        now_s = self.inventory.told_s(listed)
        teardown = verdict_of(self.name, claim.run_id, listed, notes, at_s=now_s, seen_before=seen_before)
        if doubtful and teardown.clean and not notes.listed:
            return Teardown.unknown(claim.run_id, unproven_words(self.name, claim.run_id))
        if teardown.clean:
            remove_engine_files(RunFolder(claim.folder).engine)
        return teardown

    def _is_doubtful(self, claim: Claim, regions: tuple[str, ...]) -> bool:
        """Whether something of the run is known, nothing is shown, and this may not be the account that has it."""
        if same_account(claim.account, self.account()) is Answer.YES:
            return False
        listed = self.inventory.listed(regions, claim.run_id)
        if not in_doubt(claim, self.account(), listed, told_s=self.inventory.told_s(listed)):
            return False
        return bool(claim.known) or claim.opened_in not in (None, claim.folder) or self._state_has_some(claim)

    def _state_has_some(self, claim: Claim) -> bool:
        """Whether the engine has made something, or was about to; one that can't be asked may have."""
        if not (RunFolder(claim.folder).engine / "state").exists():
            return False
        try:
            stack = self._stack(claim)
            stack.recover()
            return not stack.state().empty
        except Exception:  # noqa: BLE001 - as in `_destroy_by_state`: a torn state tells of nothing that is not there
            return True

    def _look_first(self, claim: Claim, regions: tuple[str, ...], notes: Notes) -> bool:
        """Note what stands before anything is ended; whether all could be seen. Only the state knows of more than the tag."""
        if not (RunFolder(claim.folder).engine / "state").exists():
            return False
        listed = self.inventory.to_end(regions, claim)
        notes.look(listed, at_s=self.inventory.told_s(listed))
        return listed.complete is Answer.YES

    def _regions_of(self, claim: Claim) -> tuple[str, ...]:
        """The run's region; all of them when it is not known any more."""
        return (claim.region,) if claim.region else self._all_regions()

    def _all_regions(self) -> tuple[str, ...]:
        return self.regions or self.cloud.regions(self.environment)

    def _outlast_engine(self, claim: Claim, regions: tuple[str, ...], notes: Notes) -> None:
        """Until none of this home's goes on with what it was told to make. Of a whole run, what it has made is noted."""
        if not (RunFolder(claim.folder).engine / "state").exists():
            return
        try:
            stack = self._stack(claim)
            stack.recover()
            if claim.own is None:
                notes.recorded(self._ending(regions[0], claim.run_id, stack.state()))
        except Exception as error:  # noqa: BLE001 - as below: what is listed is ended all the same
            notes.troubles.append(f"its engine could not be waited for: {error}")

    def _destroy_by_state(self, claim: Claim, regions: tuple[str, ...], notes: Notes, in_charge: InCharge) -> None:
        if not (RunFolder(claim.folder).engine / "state").exists():
            return
        try:
            stack = self._stack(claim)
            stack.recover()
            state = stack.state()
            notes.recorded(self._ending(regions[0], claim.run_id, state))
            if state.pending:
                stack.adopt(self._ids_by_type(regions, claim.run_id))
                stack.refresh()
            if not state.empty:
                in_charge()
                stack.destroy()
                _require_empty(stack.state())
        except ControlLost:
            raise
        except RentuneError as error:
            notes.troubles.append(str(error))  # the tag decides; this only explains
        except Exception as error:  # noqa: BLE001 - a full disk or a torn state must not keep the box from ending by tag
            notes.troubles.append(f"its state could not be used: {type(error).__name__}: {error}")

    def _ending(self, region: str, run_id: str, state: State) -> tuple[Resource, ...]:
        """What the state has and a teardown ends: all but a volume that is kept, and how it is attached."""
        kinds = self.cloud.KINDS
        return tuple(_resource(kinds[each.type], region, run_id, each) for each in state.resources if each.type in kinds)

    def _ids_by_type(self, regions: tuple[str, ...], run_id: str) -> dict[str, str]:
        listed = self.inventory.listed(regions, run_id)
        ids = {resource.kind: resource.id for resource in listed.resources + listed.kept}
        return {type: ids[kind] for type, kind in self._kinds.items() if kind in ids}

    # ── probes ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def owned(self, claim: Claim | None = None) -> Owned:
        """One run is asked for where it was rented; everything of ours, in every region that the account may use, at once."""
        try:
            regions = self._all_regions() if claim is None else self._regions_of(claim)
        except ProvisionError as error:
            return Owned(resources=(), complete=Answer.UNKNOWN, message=str(error))
        if claim is not None and (why := self._elsewhere(claim)) is not None:
            return Owned(resources=(), complete=Answer.UNKNOWN, message=why)
        listed = self.inventory.listed(regions, None if claim is None else claim.run_id)
        here = self.account()
        told_s = self.inventory.told_s(listed)
        if claim is not None and claim.known and listed.nothing and in_doubt(claim, here, listed, told_s=told_s):
            unproven = unproven_words(self.name, claim.run_id)
            return msgspec.structs.replace(listed, complete=Answer.UNKNOWN, message=unproven)
        return msgspec.structs.replace(listed, account=here if is_id(here) else None)

    def console(self, claim: Claim) -> str:
        """The boot log of the run's instance. cloud-init may have written user data into it, whose host key stays here."""
        listed = self.inventory.listed(self._regions_of(claim), claim.run_id)
        instances = (resource for resource in listed.resources if resource.kind == MACHINE)
        said = "\n".join(self.cloud.console(instance, self.environment) for instance in instances)
        return redact(said, environment=self.environment)

    def layers(self, claim: Claim) -> tuple[Layer, ...]:
        """What the cloud has of each instance: its own limit where it has one, and the tag by which anybody finds it late."""
        listed = self.inventory.listed(self._regions_of(claim), claim.run_id)
        instances = [resource for resource in listed.resources if resource.kind == MACHINE]
        return tuple(layer for each in instances for layer in (*self._guards(each), deadline_tag(each)))

    def _guards(self, instance: Resource) -> tuple[Layer, ...]:
        try:
            return self.cloud.guards(instance, self.environment)
        except ProvisionError as error:
            return (Layer(place="provider", name="its own limit", there=Answer.UNKNOWN, says=str(error)),)


def _resource(kind: str, region: str, run_id: str, recorded: Recorded) -> Resource:
    return Resource(kind=kind, id=recorded.id, region=region, run_id=run_id, bills=kind == MACHINE)


def deadline_tag(instance: Resource) -> Layer:
    """By it `down --orphans` of any computer knows that the machine is past its deadline; it strikes by itself never."""
    there = instance.deadline_at_s is not None
    says = "any computer with this account can end it past that" if there else "only its own ledger knows its deadline"
    return Layer(place="provider", name="deadline tag", there=Answer.YES if there else Answer.NO, says=says)


def _output(outputs: Mapping[str, Any], path: str) -> Any:
    """What the state has there, `interfaces.0.address` for one; None where it has nothing."""
    found: Any = outputs
    for step in path.split("."):
        found = dict(enumerate(found)).get(int(step)) if isinstance(found, list) else (found or {}).get(step)
    return found


def _require_empty(state: State) -> None:
    if not state.empty:
        left = f"{len(state.resources)} resources and {len(state.pending)} unfinished operations"
        raise ProvisionError(f"the state still holds {left}")
