"""The provisioner of the clouds without an engine: when a teardown may call itself destroyed."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from catalogs.hardware import Offer
from provision.clouds.engine.here import EngineHere
from provision.clouds.engine.stack import OPERATION_S, Recorded, State
from provision.clouds.engine.where import plugin_binary
from provision.clouds.inventory import Notes, verdict_of
from provision.clouds.patience import Patience
from provision.clouds.programs import Volumes, plugin_version
from provision.clouds.programs.accounts.quotas import Quota
from provision.clouds.programs.accounts.refusals import Refusal
from provision.clouds.programs.order import Image, Order, PowerOff
from provision.clouds.provisioner import PulumiProvisioner, _output
from provision.errors import MissingPart, ProvisionError, Refused
from provision.home.clocks import Clocks
from provision.home.installation import installation_id, known_installation
from provision.home.places import Places, RunFolder
from provision.seam import Answer, Claim, Launch, Layer, Owned, Resource

OFFER = Offer(
    provider="cloudy",
    region="here",
    instance_type="big",
    purchase="on_demand",
    gpu=None,
    num_gpus=Decimal(0),
    usd_per_hour=Decimal(1),
    source="made up for the test",
)
BOX = Resource(kind="instance", id="i-1", region="here", run_id="r1")
GROUP = Resource(kind="security_group", id="sg-1", region="there", run_id="r1", bills=False)

ACCOUNT = "account-1"


class Sky:
    """A cloud in memory that can lag, refuse and fall silent. Time passes only when somebody sleeps."""

    PLUGIN: str | None = "hcloud"  # whose SDK is here
    KINDS = {"cloudy:instance": "instance"}
    VOLUMES: Volumes | None = None
    ADDRESS: tuple[str, ...] = ("cloudy:instance", "address")
    IMAGE = Image(owner="us", name="*", user="ubuntu")
    WITHOUT_DRIVER: Image | None = None
    REFUSALS: tuple[Refusal, ...] = ()
    RUNS = {"on": Answer.YES, "off": Answer.NO}
    POWER_OFF = PowerOff.ENDS_BILL
    GPU_QUOTAS: tuple[str, ...] = ()
    whose: str | None = ACCOUNT

    def account(self, environment: Mapping[str, str]) -> str | None:
        return self.whose

    def needs(self, offer: Offer) -> dict[str, float]:
        return {}

    def quotas(self, region: str, names: Iterable[str], environment: Mapping[str, str]) -> tuple[Quota, ...]:
        return ()

    def image_of(self, instance_type: str, image: Image) -> Image:
        return image

    def __init__(self, *resources: Resource) -> None:
        self.now_s = 1000.0
        self.steady_s = 50.0
        self.set_by_s = 0.0  # the wall clock, once, while somebody sleeps
        self.resources = set(resources)
        self.hidden_until_s = 0.0  # lists lag: nothing is shown before
        self.refused: set[str] = set()
        self.silent: set[str] = set()  # regions that do not answer
        self.broken: set[str] = set()  # whose end fails in a way that nobody foresaw
        self.admitted: dict[tuple[str, str], tuple[str, ...]] = {}
        self.guard = threading.Lock()

    def sleep(self, duration_s: float) -> None:
        self.now_s += max(duration_s, 1.0)
        self.steady_s += max(duration_s, 1.0)
        self.now_s += self.set_by_s
        self.set_by_s = 0.0

    def program(self, order: Order) -> Callable[[], None]:
        return lambda: None  # what it makes its stack says

    def regions(self, environment: Mapping[str, str]) -> tuple[str, ...]:
        if "everything" in self.silent:
            raise ProvisionError("no answer")
        return ("here", "there")

    def owned(self, region: str, tag: str | None, environment: Mapping[str, str]) -> Owned:
        if region in self.silent:
            return Owned(resources=(), complete=Answer.UNKNOWN, message=f"{region}: no answer")
        shown = [] if self.now_s < self.hidden_until_s else sorted(self.resources, key=lambda resource: resource.kind)
        found = [resource for resource in shown if resource.region == region and tag in (None, resource.run_id)]
        ending, kept = (tuple(each for each in found if (each.name is not None) is named) for named in (False, True))
        return Owned(resources=ending, kept=kept, complete=Answer.YES)

    def destroy_stray(self, resource: Resource, environment: Mapping[str, str]) -> None:
        if resource.id in self.refused:
            raise ProvisionError(f"the cloud declines to end {resource.id}")
        if resource.id in self.broken:
            raise KeyError(resource.id)
        with self.guard:
            self.resources.discard(resource)

    def admit(self, region: str, run_id: str, cidrs: tuple[str, ...], environment: Mapping[str, str]) -> None:
        self.admitted[region, run_id] = cidrs

    def console(self, instance: Resource, environment: Mapping[str, str]) -> str:
        return f"{instance.id} has booted"

    def guards(self, instance: Resource, environment: Mapping[str, str]) -> tuple[Layer, ...]:
        if instance.region in self.silent:
            raise ProvisionError("no answer")
        return (Layer(place="provider", name="limit", there=Answer.YES, says="it ends it"),)

    def caller_address(self) -> str | None:
        return "203.0.113.7/32"


def provisioner(sky: Sky, tmp_path: Path, *, engine: Path | None = None, teardown_s: float = 300.0) -> PulumiProvisioner:
    return PulumiProvisioner(
        "cloudy",
        sky,
        EngineHere(Places(home=tmp_path / "home", cache=tmp_path / "cache"), engine, {}),
        patience=Patience(
            clocks=Clocks(wall=lambda: sky.now_s, steady=lambda: sky.steady_s, sleep=sky.sleep),
            grace_s=60.0,
            teardown_s=teardown_s,
        ),
    )


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    return Launch(
        run_id="r1", owner="ada", folder=tmp_path / "run", public_key="ssh-ed25519 A", deadline_at_s=9000.0, account=ACCOUNT
    )


@pytest.mark.parametrize(("power_off", "late_s"), [(PowerOff.ENDS_BILL, 0), (PowerOff.KEEPS_BILLING, 0), (PowerOff.STOPS, 90)])
def test_the_timer_on_the_machine_lets_the_clouds_own_limit_go_first(
    tmp_path: Path, launch: Launch, power_off: PowerOff, late_s: int
) -> None:
    """Where that deletes at the deadline what runs, and leaves what has switched itself off."""
    sky = Sky()
    sky.POWER_OFF = power_off
    (launch.folder / "engine").mkdir(parents=True)
    order = provisioner(sky, tmp_path)._order(OFFER, launch)
    assert order.deadline_at_s == launch.deadline_at_s
    assert f"-ge {9000 + late_s} " in order.user_data


@pytest.mark.parametrize(
    ("path", "found"),
    [("address", "a"), ("nics.0.address", "b"), ("nics.1.address", None), ("none.0.address", None), ("nics.0.none", None)],
)
def test_the_address_is_found_where_the_state_has_it(path: str, found: str | None) -> None:
    assert _output({"address": "a", "nics": [{"address": "b"}]}, path) == found


def test_strays_of_the_run_are_ended_in_every_region_and_no_others(tmp_path: Path, launch: Launch) -> None:
    """Without a folder that tells where: everywhere, by the run's tag alone."""
    other = msgspec.structs.replace(BOX, id="i-2", run_id="r2")
    sky = Sky(BOX, GROUP, other)

    teardown = provisioner(sky, tmp_path).destroy(launch)

    assert teardown.verdict == "destroyed"
    assert {end.resource.id: end.gone for end in teardown.resources} == {"i-1": Answer.YES, "sg-1": Answer.YES}
    assert sky.resources == {other}


BLANK = Resource(kind="volume", id="vol-1", region="here", run_id="r1", name="models")


@pytest.mark.parametrize(
    ("volumes", "stays"),
    [(None, True), (frozenset(), False), (frozenset({"vol-1"}), True)],
    ids=["nobody knows", "it is blank", "something is on it"],
)
@pytest.mark.parametrize("box", [(), (BOX,)], ids=["no box", "a box"])
def test_a_volume_ends_with_its_box_where_nothing_was_put_on_it(
    tmp_path: Path, launch: Launch, box: tuple[Resource, ...], volumes: frozenset[str] | None, stays: bool
) -> None:
    """Nobody else's is looked at."""
    theirs = msgspec.structs.replace(BLANK, id="vol-2", run_id="r2")
    sky = Sky(BLANK, theirs, *box)
    teardown = provisioner(sky, tmp_path).destroy(msgspec.structs.replace(launch, volumes=volumes))
    assert teardown.verdict == "destroyed"
    assert sky.resources == {BLANK, theirs} if stays else {theirs}
    assert [each.id for each in teardown.kept] == (["vol-1"] if stays else [])
    assert [end.resource.id for end in teardown.resources] == [each.id for each in box] + ([] if stays else ["vol-1"])


def test_a_blank_volume_that_another_machine_has_by_now_stays(tmp_path: Path, launch: Launch) -> None:
    """Found by its name by another run; what that has put on it this run can't know."""
    used = msgspec.structs.replace(BLANK, in_use=True)
    sky = Sky(used)
    teardown = provisioner(sky, tmp_path).destroy(msgspec.structs.replace(launch, volumes=frozenset()))
    assert (teardown.verdict, teardown.kept, sky.resources) == ("destroyed", (used,), {used})


@pytest.mark.parametrize(
    ("filled", "box", "in_use", "ended"),
    [
        (frozenset(), (BOX,), True, True),
        (frozenset({"vol-1"}), (BOX,), True, False),
        (frozenset(), (BOX,), False, False),
        (frozenset(), (), True, False),
        (None, (BOX,), True, False),
    ],
    ids=["its machine has another", "an earlier attempt's", "none is in use", "its machine is gone", "nobody knows"],
)
def test_a_second_volume_of_a_run_that_has_filled_one_ends_where_it_is_surely_blank(
    tmp_path: Path, launch: Launch, filled: frozenset[str] | None, box: tuple[Resource, ...], in_use: bool, ended: bool
) -> None:
    """An order whose answer was lost had left it in another data centre, and it was kept, and billed by the month."""
    used = msgspec.structs.replace(BLANK, id="vol-9", region="there", in_use=in_use)
    sky = Sky(BLANK, used, *box)
    teardown = provisioner(sky, tmp_path).destroy(msgspec.structs.replace(launch, filled=filled))
    assert teardown.verdict == "destroyed"
    assert used in sky.resources
    assert (BLANK not in sky.resources) == ended


def test_a_blank_volume_that_does_not_end_is_an_orphan(tmp_path: Path, launch: Launch) -> None:
    """It bills: the verdict is no clean one, and says what to type."""
    sky = Sky(BLANK)
    sky.refused = {"vol-1"}
    teardown = provisioner(sky, tmp_path).destroy(msgspec.structs.replace(launch, volumes=frozenset()))
    assert (teardown.verdict, teardown.command, sky.resources) == ("orphaned", "rentune down r1", {BLANK})


def test_destroyed_means_listed_empty_twice_the_grace_apart(tmp_path: Path, launch: Launch) -> None:
    """A box that the list does not show yet is still found before anything is called destroyed, patience over or not."""
    sky = Sky(BOX)
    sky.hidden_until_s = sky.now_s + 50.0

    assert provisioner(sky, tmp_path, teardown_s=0.0).destroy(launch).verdict == "orphaned"
    assert provisioner(sky, tmp_path).destroy(launch).verdict == "destroyed"
    assert sky.resources == set()


@pytest.mark.fault("F19", tier="code")
def test_a_box_is_billed_until_the_look_that_does_not_show_it_any_more(tmp_path: Path, launch: Launch) -> None:
    """The second look, a grace later, only makes sure: on a small cap the time until then is more than the reserve."""
    sky = Sky(BOX)

    [end] = provisioner(sky, tmp_path).destroy(launch).resources

    assert (end.gone, end.at_s) == (Answer.YES, 1005.0)
    assert sky.now_s == 1065.0


@pytest.mark.fault("F19", tier="code")
def test_a_box_is_billed_by_the_clock_of_its_cloud(tmp_path: Path, launch: Launch) -> None:
    """Of a machine here that is 200 s ahead no second of it is on the bill, and the verdict says by how much it is."""

    class Elsewhere(Sky):
        def owned(self, region: str, tag: str | None, environment: Mapping[str, str]) -> Owned:
            return msgspec.structs.replace(super().owned(region, tag, environment), ahead_s=200.0)

    teardown = provisioner(Elsewhere(BOX), tmp_path).destroy(launch)

    assert ([end.at_s for end in teardown.resources], teardown.ahead_s) == ([805.0], 200.0)


@pytest.mark.fault("F5", tier="code")
def test_a_list_that_forgets_a_box_for_a_moment_does_not_end_its_bill() -> None:
    """Shown again, it is there again; and where no list ever showed it, nobody knows when it went."""
    notes, shown, not_shown = Notes(), Owned(resources=(BOX,), complete=Answer.YES), Owned(resources=(), complete=Answer.YES)
    for at_s, listed in enumerate((shown, not_shown, shown, not_shown, not_shown)):
        notes.look(listed, at_s=float(at_s))
    notes.recorded([GROUP])

    ends = verdict_of("cloudy", "r1", not_shown, notes, at_s=9.0, seen_before=True).resources

    assert {end.resource.id: (end.at_s, end.before) for end in ends} == {"i-1": (3.0, False), "sg-1": (9.0, True)}


def test_a_teardown_may_take_two_operations_of_the_engine_and_the_patience_with_its_lists(tmp_path: Path) -> None:
    """Read back and destroyed by state, then looked at until nothing is listed, and once more after the lists' lag."""
    assert provisioner(Sky(), tmp_path, teardown_s=300.0).worst_teardown_s >= 2 * OPERATION_S + 300.0 + 60.0


def test_what_the_cloud_does_not_end_is_orphaned_and_named(tmp_path: Path, launch: Launch) -> None:
    """With the reason, and the command that finishes it."""
    sky = Sky(BOX, GROUP)
    sky.refused = {"i-1"}

    teardown = provisioner(sky, tmp_path).destroy(launch)

    assert (teardown.verdict, teardown.command) == ("orphaned", "rentune down r1")
    assert {end.resource.id: end.gone for end in teardown.resources} == {"i-1": Answer.NO, "sg-1": Answer.YES}
    assert "still lists instance i-1 (the cloud declines to end i-1)" in teardown.message


@pytest.mark.parametrize("silent", ["there", "everything"])
def test_what_could_not_be_asked_is_unknown(tmp_path: Path, launch: Launch, silent: str) -> None:
    """One region that does not answer is enough."""
    sky = Sky()
    sky.silent = {silent}

    teardown = provisioner(sky, tmp_path).destroy(launch)

    assert (teardown.verdict, teardown.command) == ("unknown", "rentune down r1")
    assert "no answer" in teardown.message
    assert provisioner(sky, tmp_path).owned().complete is Answer.UNKNOWN


def test_a_state_that_cannot_be_used_in_any_way_keeps_nothing_from_ending(tmp_path: Path, launch: Launch) -> None:
    """Here a file where a folder should be, as after a bad copy: noted, and the tag ends the box."""
    sky = Sky(BOX, GROUP)
    sky.broken = {"i-1"}
    engine = RunFolder(launch.folder).engine
    (engine / "state").mkdir(parents=True)
    (engine / "home").write_text("")
    plugin = plugin_binary(Places(home=tmp_path / "home", cache=tmp_path / "cache"), "hcloud", plugin_version("hcloud"))
    plugin.parent.mkdir(parents=True)
    plugin.touch()
    asked = provisioner(sky, tmp_path, engine=tmp_path / "pulumi")

    stuck = asked.destroy(launch)
    assert "its state could not be used: FileExistsError" in stuck.message
    assert "instance i-1: KeyError" in stuck.message
    assert sky.resources == {BOX}  # the one that fails did not shield the other
    sky.broken = set()
    assert asked.destroy(launch).verdict == "destroyed"


@pytest.mark.parametrize("set_by_s", [900.0, -900.0])
def test_a_wall_clock_that_is_set_makes_a_teardown_neither_hasty_nor_endless(
    tmp_path: Path, launch: Launch, set_by_s: float
) -> None:
    """How long a cloud is given counts by a clock that nobody sets: what does not go away is told once that has passed."""
    sky = Sky(BOX)
    sky.refused, sky.set_by_s = {"i-1"}, set_by_s
    began_s = sky.steady_s
    assert provisioner(sky, tmp_path, teardown_s=300.0).destroy(launch).verdict == "orphaned"
    assert 300.0 <= sky.steady_s - began_s < 320.0


def test_a_run_is_asked_for_where_it_was_rented_only(tmp_path: Path, launch: Launch) -> None:
    """A region that is denied to the account, and never held this run, says nothing about it."""
    sky = Sky(BOX)
    sky.silent = {"there"}
    asked = provisioner(sky, tmp_path)
    rented = msgspec.structs.replace(launch, region="here")

    assert asked.owned(launch).complete is Answer.UNKNOWN
    assert asked.owned(rented) == Owned(resources=(BOX,), complete=Answer.YES, account=ACCOUNT)
    assert asked.destroy(rented).verdict == "destroyed"
    assert asked.owned(rented).complete is Answer.YES
    assert asked.owned().complete is Answer.UNKNOWN


def test_whoever_has_moved_is_let_in_again(tmp_path: Path, launch: Launch) -> None:
    sky = Sky(BOX)
    here = msgspec.structs.replace(launch, region="here")
    assert provisioner(sky, tmp_path).readmit(here) == "203.0.113.7/32"
    assert sky.admitted == {("here", "r1"): ("203.0.113.7/32",)}
    sky.silent = {"everything"}
    with pytest.raises(ProvisionError, match="no answer"):
        provisioner(sky, tmp_path).readmit(launch)  # nobody to ask which regions there are


def test_one_installation_per_home_whole_and_lasting(tmp_path: Path) -> None:
    """Looking makes none, the first use makes one, another home has another."""
    ours, theirs = (Places(home=tmp_path / name, cache=tmp_path / "cache") for name in ("ours", "theirs"))
    assert known_installation(ours) is None
    assert installation_id(ours) == installation_id(ours) == known_installation(ours)
    assert installation_id(ours) != installation_id(theirs)
    (ours.home / "installation").write_text("")
    with pytest.raises(Refused, match="16 hexadecimal"):
        installation_id(ours)


def test_owned_is_everybody_s_or_one_run_s(tmp_path: Path, launch: Launch) -> None:
    other = msgspec.structs.replace(BOX, id="i-2", run_id="r2")
    asked = provisioner(Sky(BOX, GROUP, other), tmp_path)

    assert {resource.id for resource in asked.owned().resources} == {"i-1", "i-2", "sg-1"}
    assert {resource.id for resource in asked.owned(launch).resources} == {"i-1", "sg-1"}
    assert asked.owned(launch).complete is Answer.YES


def test_the_console_is_that_of_the_run_s_instance(tmp_path: Path, launch: Launch) -> None:
    assert provisioner(Sky(BOX, GROUP), tmp_path).console(launch) == "i-1 has booted"


def test_up_needs_an_engine_a_plugin_and_a_region(tmp_path: Path, launch: Launch) -> None:
    """Each is missing before anything is bought, and the hint says how to get it."""
    with pytest.raises(MissingPart, match="engine is not built") as caught:
        provisioner(Sky(), tmp_path).up(OFFER, launch)
    assert caught.value.hint == "rentune doctor --install"
    with pytest.raises(MissingPart, match=rf"plugin for cloudy, version {re.escape(plugin_version('hcloud'))}, is missing"):
        provisioner(Sky(), tmp_path, engine=tmp_path / "pulumi").up(OFFER, launch)
    with pytest.raises(Refused, match="names no region"):
        provisioner(Sky(), tmp_path).up(msgspec.structs.replace(OFFER, region="*"), launch)


class OpenSky(Sky):
    """A cloud that finds a place by itself, keeps nobody out, and is spoken to by a dynamic provider."""

    PLUGIN = None

    def regions(self, environment: Mapping[str, str]) -> tuple[str, ...]:
        return ("*",)

    def caller_address(self) -> None:
        return None


def test_a_cloud_that_finds_the_place_itself_needs_no_region_and_no_plugin(tmp_path: Path, launch: Launch) -> None:
    """Its offers have the region that it is looked at in, so what is missing is the engine alone."""
    anywhere = msgspec.structs.replace(OFFER, region="*")
    with pytest.raises(MissingPart, match="engine is not built"):
        provisioner(OpenSky(), tmp_path).up(anywhere, launch)
    (tmp_path / "pulumi").write_text("#!/bin/sh\necho 1\n")
    (tmp_path / "pulumi").chmod(0o755)
    with pytest.raises(MissingPart, match="is no Pulumi engine"):
        provisioner(OpenSky(), tmp_path, engine=tmp_path / "pulumi").up(anywhere, launch)


def test_where_everybody_may_reach_ssh_nobody_is_let_in_anew(tmp_path: Path, launch: Launch) -> None:
    sky = OpenSky(BOX)
    assert provisioner(sky, tmp_path).readmit(launch) is None
    assert sky.admitted == {}


def test_what_the_cloud_does_not_tell_of_its_limit_is_unknown(tmp_path: Path, launch: Launch) -> None:
    """And the tag is read all the same: one without the deadline is found by nobody who lacks our ledger."""
    sky = Sky(BOX)
    layers = provisioner(sky, tmp_path).layers(launch)
    assert [(layer.name, layer.there) for layer in layers] == [("limit", Answer.YES), ("deadline tag", Answer.NO)]
    tagged = Sky(msgspec.structs.replace(BOX, deadline_at_s=9000.0))
    tagged.guards = silent  # type: ignore[method-assign]
    limit, tag = provisioner(tagged, tmp_path).layers(launch)
    assert (limit.there, limit.says, tag.there) == (Answer.UNKNOWN, "no answer", Answer.YES)


def silent(instance: Resource, environment: Mapping[str, str]) -> tuple[Layer, ...]:
    raise ProvisionError("no answer")


# ── the engine's state ─────────────────────────────────────────────────────────────────────────────────────────────

MADE = Recorded(type="cloudy:instance", urn="urn:box", id="i-1", outputs={"address": "198.51.100.4"})


class PaperStack:
    """An engine that makes one box, or has begun to; it notes what is asked of it."""

    def __init__(self, after: State, *, before: State | None = None) -> None:
        self.states = [before or State(), after]
        self.asked: list[str] = []

    def recover(self) -> None:
        self.asked.append("recover")

    def state(self) -> State:
        self.asked.append("state")
        return self.states[0]

    def up(self, _program: object) -> None:
        self.asked.append("up")
        self.states.pop(0)

    def destroy(self) -> None:
        self.asked.append("destroy")
        self.states = [State()]

    def adopt(self, _ids: object) -> None:
        self.asked.append("adopt")

    def refresh(self) -> None:
        self.asked.append("refresh")


def with_stack(sky: Sky, tmp_path: Path, stack: PaperStack, *, name: str = "cloudy") -> PulumiProvisioner:
    class OnPaper(PulumiProvisioner):
        def _stack(self, claim: Claim, *, operation_s: float = 0.0) -> Any:
            return stack

    clocks = Clocks(wall=lambda: sky.now_s, steady=lambda: sky.steady_s, sleep=sky.sleep)
    places = Places(home=tmp_path / "home", cache=tmp_path / "cache")
    return OnPaper(name, sky, EngineHere(places, None, {}), patience=Patience(clocks=clocks, grace_s=60.0))


HERE_OFFER = msgspec.structs.replace(OFFER, region="here", gpu=None)


def test_what_an_earlier_engine_still_does_is_waited_for_before_anything_is_made(tmp_path: Path, launch: Launch) -> None:
    """It may be in the middle of a create that its state does not show: a second box would be bought."""
    RunFolder(launch.folder).engine.mkdir(parents=True)
    stack = PaperStack(State(resources=(MADE,)))
    assert with_stack(Sky(), tmp_path, stack).up(HERE_OFFER, launch).host == "198.51.100.4"
    assert stack.asked == ["recover", "state", "up", "state"]


def test_so_it_is_before_anything_is_destroyed(tmp_path: Path, launch: Launch) -> None:
    (RunFolder(launch.folder).engine / "state").mkdir(parents=True)
    stack = PaperStack(State(), before=State(resources=(MADE,)))
    with_stack(Sky(), tmp_path, stack).destroy(msgspec.structs.replace(launch, region="here"))
    assert stack.asked[:3] == ["recover", "state", "destroy"]


def test_the_one_time_host_key_is_never_on_a_disk_of_ours(tmp_path: Path, launch: Launch) -> None:
    """A kill would leave it there, and nothing ever removes it."""
    sky = Sky()
    order = provisioner(sky, tmp_path)._order(OFFER, launch)
    again = provisioner(sky, tmp_path)._order(OFFER, launch)
    assert "OPENSSH PRIVATE KEY" in order.user_data
    assert order.host_key != again.host_key
    assert not [path for path in launch.folder.rglob("*") if path.is_file()]


def test_what_the_engine_knows_stays_until_nothing_is_left(tmp_path: Path, launch: Launch) -> None:
    """State and passphrase are what the next try ends the rest by; only a clean verdict needs them no more."""
    engine = RunFolder(launch.folder).engine
    (engine / "state").mkdir(parents=True)
    (engine / "passphrase").write_text("secret")
    sky = Sky(BOX)
    sky.refused = {"i-1"}
    ending = with_stack(sky, tmp_path, PaperStack(State(), before=State(resources=(MADE,))))
    assert ending.destroy(launch).verdict == "orphaned"
    assert sorted(each.name for each in engine.iterdir()) == ["passphrase", "state"]
    sky.refused = set()
    assert ending.destroy(launch).verdict == "destroyed"
    assert list(engine.iterdir()) == []


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (State(resources=(MADE,), pending=(msgspec.structs.replace(MADE, id=""),)), "left 1 operations unfinished"),
        (State(resources=(msgspec.structs.replace(MADE, id=""),)), "recorded no instance"),
        (State(), "recorded no instance"),
    ],
    ids=["one more pending", "without an id", "nothing"],
)
def test_an_up_that_succeeded_and_recorded_less_is_none(after: State, words: str, tmp_path: Path, launch: Launch) -> None:
    """The engine's word is a note; what it has not finished may be a box that bills, and the caller ends what there is."""
    RunFolder(launch.folder).engine.mkdir(parents=True)
    with pytest.raises(ProvisionError, match=words):
        with_stack(Sky(), tmp_path, PaperStack(after)).up(HERE_OFFER, launch)
