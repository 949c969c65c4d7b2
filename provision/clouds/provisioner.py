"""The provisioner for every cloud that Pulumi drives: the engine creates and destroys, the cloud itself is believed.

`up` buys only when the cloud, asked by tag, lists nothing of the run. `destroy` ends what the state knows, then what
the tag finds, and calls it destroyed when the cloud has listed nothing twice, a grace apart, because lists lag.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from catalogs.hardware import Offer
from provision.clouds.engine.here import EngineHere
from provision.clouds.engine.runner import PATIENCE_S as ENGINE_PATIENCE_S
from provision.clouds.engine.stack import Stack, State, remove_engine_files
from provision.clouds.engine.undoing import Undoing, ending, kinds_of
from provision.clouds.inventory import Inventory, Notes, names_of, verdict_of
from provision.clouds.orders.first_words import LOOKS, box_folder, idle_limit_of
from provision.clouds.orders.ordering import Ordering
from provision.clouds.orders.preview import WouldBe, would_be
from provision.clouds.orders.reuse import CACHE
from provision.clouds.patience import OPERATION_S, PATIENCE, Patience
from provision.clouds.programs import Cloud
from provision.clouds.programs.accounts.refusals import read_refusal
from provision.clouds.programs.order import (
    SSH_PORT,
    Image,
    Order,
)
from provision.clouds.whose import Whose
from provision.errors import (
    ControlLost,
    Declined,
    NotOrdered,
    ProvisionError,
    Refused,
    RentuneError,
)
from provision.home.places import RunFolder
from provision.redact import redact
from provision.seam import (
    MACHINE,
    SET_CLOCK,
    Answer,
    Box,
    Claim,
    Ends,
    InCharge,
    Launch,
    Layer,
    Owned,
    Resource,
    Teardown,
    clock_trouble,
    unshared,
)

# Derived: an engine that outlived its controller is waited for, then one reads back and one destroys.
ENGINE_S: Final = ENGINE_PATIENCE_S[0] + 3 * sum(ENGINE_PATIENCE_S) + 2 * OPERATION_S


class PulumiProvisioner:
    """A `Provisioner` for one cloud, by the engine of this home.

    `regions` is where to look for what no folder tells the region of; without it, everywhere the account may go.

    One process drives one run at a time (see provision.clouds.engine.stack).
    """

    def __init__(
        self,
        name: str,
        cloud: Cloud,
        engine: EngineHere,
        *,
        image: Image | None = None,
        regions: tuple[str, ...] = (),
        patience: Patience = PATIENCE,
    ) -> None:
        self.name = name
        self.cloud = cloud
        self.engine = engine
        self.environment = engine.environment
        self.image = image or cloud.IMAGE
        self.regions = regions
        self.patience = patience
        self.list_lag_s = patience.grace_s
        self.look = LOOKS[self.image.told_by](idle_limit=idle_limit_of(cloud) is not None)
        self.worst_teardown_s = ENGINE_S + patience.teardown_s + patience.grace_s
        self.inventory = Inventory(cloud, self.environment, patience)
        self.whose = Whose(name, lambda: cloud.account(self.environment))

    def account(self) -> str | None:
        """As the protocol says: whose account is asked and rented in."""
        return self.whose.account()

    # ── up ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def preview(self, offer: Offer, launch: Launch) -> tuple[WouldBe, ...]:
        """What `up` would create. The cloud is asked what the program must know; nothing is made. Raises ProvisionError."""
        self.ordering.require_possible(offer)
        stack = self._stack(launch, operation_s=self.patience.create_s)
        order = self._order(offer, launch)
        try:
            foreseen = stack.preview(self.cloud.program(order))
        except Declined as error:
            raise read_refusal(self.cloud.REFUSALS, error, cloud=self.name) from None
        return tuple(would_be(each, kinds_of(self.cloud)[each.type]) for each in foreseen)

    def up(self, offer: Offer, launch: Launch) -> Box:
        """One instance of the offer; refused while state or cloud knows of anything of this run."""
        self.ordering.require_possible(offer)
        stack = self._stack(launch, operation_s=self.patience.create_s)
        stack.recover()
        ahead_s = self._refuse_leftovers(stack.state(), offer.region, launch.run_id)
        order = self._order(offer, launch, ahead_s=ahead_s)
        try:
            stack.up(self.cloud.program(order))
            state = self.ordering.require_whole(stack.state(), order)
        except Declined as error:
            read = read_refusal(self.cloud.REFUSALS, error, cloud=self.name)
            left = self._left(offer.region, launch.run_id)
            message = f"{str(read).removesuffix('.')}. {left}"
            raise Declined(message, reason=read.reason, scope=read.scope, zone=read.zone) from None
        except ProvisionError as error:
            left = self._left(offer.region, launch.run_id)
            raise ProvisionError(f"{str(error).removesuffix('.')}. {left}", hint=f"rentune down {launch.run_id}") from None
        return self._box(order, launch, state)

    @property
    def ordering(self) -> Ordering:
        """What can be asked for there, and how."""
        return Ordering(self.name, self.cloud, self.image, self.engine.places, self.inventory, self._all_regions)

    def _order(self, offer: Offer, launch: Launch, *, ahead_s: float = 0.0) -> Order:
        return self.ordering.order(offer, launch, ahead_s=ahead_s)

    def _stack(self, claim: Claim, *, operation_s: float = OPERATION_S) -> Stack:
        return self.engine.stack(claim, cloud=self.name, plugin=self.cloud.PLUGIN, operation_s=operation_s)

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
        host, ends = _output(outputs, output), ending(self.cloud, order.region, launch.run_id, state)
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
            installs_driver=order.installs_driver,
            resources=self.inventory.as_shown(ends, order.region, launch.run_id),
        )

    def rearm(self, claim: Claim, ends: Ends) -> None:
        """Nothing: the box's own timer begins again at each boot."""

    def readmit(self, claim: Claim) -> str | None:
        """Let this machine's present address in, and no longer the one at launch; the address, for the user to read.

        None where everybody may come in. Raises ProvisionError when the cloud can't be asked.
        """
        address = self.cloud.caller_address()
        if address is None:
            return None
        if (why := self.whose.elsewhere(claim)) is not None:
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
        if (why := self.whose.elsewhere(claim)) is not None:
            return Teardown.unknown(claim.run_id, why)
        notes, seen_before, doubtful = Notes(), False, False
        try:
            regions = self._regions_of(claim)
            claim = self.inventory.told_apart(regions, claim)
            undoing = self.undoing(claim, regions)
            doubtful = claim.own is None and self._is_doubtful(claim, undoing)
            if claim.own is None and not doubtful:
                seen_before = undoing.look_first(notes)
                undoing.destroy(notes, in_charge)
            else:
                undoing.outlast_engine(notes)
            listed = self.inventory.end(regions, claim, notes, in_charge)
        except ControlLost:
            raise
        except RentuneError as error:
            listed = Owned(resources=(), complete=Answer.UNKNOWN, message=str(error))
        now_s = self.inventory.told_s(listed)
        teardown = verdict_of(self.name, claim.run_id, listed, notes, at_s=now_s, seen_before=seen_before)
        if doubtful and teardown.clean and not notes.listed:
            return Teardown.unknown(claim.run_id, self.whose.unproven(claim))
        if teardown.clean:
            remove_engine_files(RunFolder(claim.folder).engine)
        return teardown

    def undoing(self, claim: Claim, regions: tuple[str, ...]) -> Undoing:
        """What is done by the engine's state of that run."""
        return Undoing(claim, regions, self.cloud, self.inventory, self._stack)

    def _is_doubtful(self, claim: Claim, undoing: Undoing) -> bool:
        """Whether something of the run is known, nothing is shown, and this may not be the account that has it."""
        if self.whose.is_run_s(claim):
            return False
        listed = self.inventory.listed(undoing.regions, claim.run_id)
        if not self.whose.doubts(claim, listed, told_s=self.inventory.told_s(listed)):
            return False
        return bool(claim.known) or claim.opened_in not in (None, claim.folder) or undoing.has_some()

    def _regions_of(self, claim: Claim) -> tuple[str, ...]:
        """The run's region; all of them when it is not known any more."""
        return (claim.region,) if claim.region else self._all_regions()

    def _all_regions(self) -> tuple[str, ...]:
        return self.regions or self.cloud.regions(self.environment)

    # ── probes ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def owned(self, claim: Claim | None = None) -> Owned:
        """One run is asked for where it was rented; everything of ours, in every region that the account may use, at once."""
        try:
            regions = self._all_regions() if claim is None else self._regions_of(claim)
        except ProvisionError as error:
            return Owned(resources=(), complete=Answer.UNKNOWN, message=str(error))
        if claim is not None and (why := self.whose.elsewhere(claim)) is not None:
            return Owned(resources=(), complete=Answer.UNKNOWN, message=why)
        listed = self.inventory.listed(regions, None if claim is None else claim.run_id)
        told_s = self.inventory.told_s(listed)
        if claim is not None and claim.known and listed.nothing and self.whose.doubts(claim, listed, told_s=told_s):
            return msgspec.structs.replace(listed, complete=Answer.UNKNOWN, message=self.whose.unproven(claim))
        return msgspec.structs.replace(listed, account=self.whose.id())

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
