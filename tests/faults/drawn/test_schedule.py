"""Everything at once: crash × resume × network × API, drawn by seed, in virtual time; `benchmarks/renting/chaos.py` goes on."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec
import pytest

from provision.charge.driving import drive
from provision.charge.ends.nothing import NothingRented
from provision.clouds.programs.order import PowerOff
from provision.errors import Exit, Refused
from provision.walk.edges import Edges
from remote.contract import Outcome
from remote.digest import sha256_of
from tests.doubles.displays import Quiet
from tests.doubles.virtual.cloud import GRACE_S
from tests.doubles.virtual.lives import Killed, Life, MortalLedger
from tests.doubles.virtual.outside import Outside
from tests.doubles.virtual.trainer import Training
from tests.doubles.world.core import Fault, Reason, Settings, Verb
from tests.faults.drawn.judge import broken_by_dollars
from tests.faults.drawn.schedule import Controller, Schedule, Stage, draw, play

SEEDS = range(30)
NEAR_ITS_END: Final = 135  # measured on 2026-11-28: of the 158 moments of such a run, its box is gone from the 117th on
VERBS: tuple[Verb, ...] = ("create", "read", "list", "delete")
# A run in which nothing goes wrong; the tests below spoil one thing each.
CALM = Schedule(
    seed=0,
    settings=Settings(power_off=PowerOff.ENDS_BILL, list_lag_s=30.0, boot_s=60.0, delete_s=20.0),
    training=Training(work_s=3000.0),
    faults=(),
    elsewhere_usd_per_hour=(),
    cuts=(),
    lost_answers=0.0,
    taken_after_s=None,
    max_usd=Decimal(12),
    controllers=(Controller("resume", pause_s=0.0),),
)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.fault("F5", tier="code")
@pytest.mark.fault("F19", tier="code")
@pytest.mark.fault("F21", tier="code")
def test_every_promise_holds_whatever_comes_together(seed: int, tmp_path: Path) -> None:
    """No box past deadline and grace, never two at once; dollars as billed, within the cap; no silent loss."""
    assert play(draw(seed), tmp_path).broken == ()


def test_few_schedules_rent_nothing(tmp_path: Path) -> None:
    """A promise about money holds of itself where none is spent."""
    played = [play(draw(seed), tmp_path / str(seed)) for seed in range(20)]
    assert sum(each.boxes == 0 for each in played) <= 2


@pytest.mark.parametrize(
    ("ledger", "words"),
    [
        ("1.93", "1.93 of the 2.0000 dollars that were billed"),
        ("1.94", None),
        ("2.60", None),
        ("2.61", "2.61, more than 2.0000 billed and 0.6000 unseen"),
        ("3.01", "3.01 dollars, more than the cap of 3"),
    ],
)
def test_the_ledger_is_judged_from_both_sides(ledger: str, words: str | None) -> None:
    """$3.60 an hour: a minute less than the bill, or ten minutes more where so long nobody could see that no box stood."""
    told = broken_by_dollars(
        billed=Decimal(2), ledger=Decimal(ledger), cap=Decimal(3), usd_per_hour=Decimal("3.60"), unseen_s=600.0
    )
    assert words is None or words in " ".join(told)
    assert bool(told) == (words is not None)


@pytest.mark.fault("F19", tier="code")
@pytest.mark.parametrize("by_s", [-3600.0, -200.0, 200.0, 3600.0])
@pytest.mark.parametrize("set_after_s", [-1.0, 1000.0])
def test_a_clock_at_home_that_is_set_moves_no_dollar(by_s: float, set_after_s: float, tmp_path: Path) -> None:
    """Before the order or in training: begin and end of a box are told by the clock of whoever bills it."""
    schedule = dataclasses.replace(CALM, clock_set=((set_after_s, by_s),))
    assert play(schedule, tmp_path).broken == ()


@pytest.mark.fault("F19", tier="code")
@pytest.mark.parametrize("by_s", [-3600.0, 3600.0])
def test_a_box_that_had_gone_is_counted_by_the_clock_that_it_went_by(by_s: float, tmp_path: Path) -> None:
    """Its controller died over the end of it, and whoever looks after that has a clock that was set since the order: what was
    set was taken off twice, and an hour was counted that nobody was billed.
    """
    schedule = dataclasses.replace(CALM, training=Training(work_s=600.0), clock_set=((300.0, by_s),))
    for moment in itertools.count(NEAR_ITS_END):
        stage = Stage.set(schedule, tmp_path / str(moment))
        assert stage.send(Controller("resume", pause_s=0.0, killed_at=moment)), "it ended before its box was seen to be gone"
        if stage.is_home and all(each.ends_at_s is not None for each in stage.outside.world.things):
            break
    stage.pass_unattended(60.0)
    stage.send(Controller("down", pause_s=0.0))
    assert stage.judged() == []


@pytest.mark.fault("F19", tier="code")
def test_a_box_ends_by_its_cloud_s_clock_where_nobody_comes(tmp_path: Path) -> None:
    """The clock at home was 200 s ahead when it was ordered, and its controller was killed: not 200 s more are paid for."""
    dies = Controller("resume", pause_s=0.0, killed_at=60)
    for number, clock_set in enumerate(((), ((-1.0, 200.0),))):
        schedule = dataclasses.replace(CALM, max_usd=Decimal(3), clock_set=clock_set, controllers=(dies,))
        stage = Stage.set(schedule, tmp_path / str(number))
        stage.send(dies)
        assert stage.judged() == []
        [machine] = stage.outside.world.things
        assert machine.ends_at_s is not None
        assert (machine.ends_at_s - machine.created_at_s) == pytest.approx(2820.0 - 234.0, abs=3.0), (
            "$3 less what the result costs"
        )


def test_a_seed_is_a_schedule() -> None:
    """What one machine finds another can play again; no two seeds are alike."""
    assert draw(7) == draw(7)
    assert len({repr(dataclasses.replace(draw(seed), seed=0)) for seed in range(300)}) == 300


def test_the_seeds_above_are_no_calm_ones() -> None:
    """Controllers are killed and stopped, lines are cut, clouds refuse, boxes are taken away, trainers die."""
    drawn = [draw(seed) for seed in SEEDS]
    controllers = [each for schedule in drawn for each in schedule.controllers]
    assert sum(each.killed_at is not None for each in controllers) >= 20
    assert sum(each.stopped_at is not None for each in controllers) >= 5
    for fault in (
        "faults", "elsewhere_usd_per_hour", "cuts", "lost_answers", "taken_after_s", "disk_gib", "spot", "clock_set", "lease_s",
    ):  # fmt: skip
        assert sum(bool(getattr(schedule, fault)) for schedule in drawn) >= 2, fault
    assert sum(schedule.training.killed_after_s is not None for schedule in drawn) >= 2


def test_a_calm_run_trains(tmp_path: Path) -> None:
    """Else the promises would hold for runs that never came so far."""
    played = play(CALM, tmp_path)
    assert (played.broken, played.trained, played.boxes) == ((), True, 1)
    assert played.ledger_usd > 0


@pytest.mark.fault("F13", tier="code")
def test_ten_minutes_without_a_line_cost_nothing(tmp_path: Path) -> None:
    """The job goes on, nobody asks for a second box, and what was said meanwhile is heard afterwards."""
    played = play(dataclasses.replace(CALM, cuts=((300.0, 900.0),)), tmp_path)
    assert (played.broken, played.trained, played.boxes) == ((), True, 1)


LEASED: Final = dataclasses.replace(CALM, training=Training(work_s=6000.0), lease_s=1800.0)
DIES: Final = Controller("resume", pause_s=0.0, killed_at=80)  # in the training, with checkpoints on the box


@pytest.mark.fault("F13", tier="code")
def test_a_lease_ends_no_box_whose_controller_lives(tmp_path: Path) -> None:
    """The training is longer than three leases, and a line that is cut for less than one costs nothing."""
    played = play(dataclasses.replace(LEASED, cuts=((1000.0, 2500.0),)), tmp_path)
    assert (played.broken, played.trained, played.boxes, played.leases_ended) == ((), True, 1, 0)


@pytest.mark.fault("F13", tier="code")
@pytest.mark.parametrize(
    ("pause_s", "trained", "boxes", "leases_ended"),
    [(1500.0, True, 1, 0), (1900.0, True, 2, 1), (4000.0, False, 1, 1)],
    ids=["in time", "while the box waits for him", "once it is gone"],
)
def test_whoever_comes_back_after_a_lease_goes_on_from_what_he_still_finds(
    pause_s: float, trained: bool, boxes: int, leases_ended: int, tmp_path: Path
) -> None:
    """Its trainer saved, and a box with the only copy waits five minutes. Without a copy nothing more is rented."""
    played = play(dataclasses.replace(LEASED, controllers=(DIES, Controller("resume", pause_s=pause_s))), tmp_path)
    assert (played.broken, played.trained, played.boxes, played.leases_ended) == ((), trained, boxes, leases_ended)


@pytest.mark.fault("F13", tier="code")
def test_a_box_whose_line_is_cut_for_longer_than_its_lease_ends_and_no_second_stands_beside_it(tmp_path: Path) -> None:
    """Its controller lives, and finds it gone."""
    played = play(dataclasses.replace(LEASED, cuts=((1000.0, 4000.0),)), tmp_path)
    assert (played.broken, played.leases_ended) == ((), 1)


@pytest.mark.fault("F14", tier="code")
def test_a_box_whose_controller_died_with_the_result_at_home_ends_by_its_lease(tmp_path: Path) -> None:
    """It would be paid for until its deadline; one that has the only copy of a result is."""
    schedule = dataclasses.replace(LEASED, training=Training(work_s=600.0))
    ended_s: dict[bool, list[float]] = {True: [], False: []}
    for moment in range(104, 118, 2):  # from a trainer that is done to an order to end its box
        stage = Stage.set(schedule, tmp_path / str(moment))
        stage.send(Controller("resume", pause_s=0.0, killed_at=moment))
        for machine in stage.outside.standing:
            stage.outside.pass_unattended(machine.details["deadline_at_s"] - stage.outside.now_s + GRACE_S)
            ended_s[machine.details["job"].fetched].append(machine.details["deadline_at_s"] - machine.ends_at_s)
    assert min(ended_s[True]) > 3600.0
    assert 0.0 in ended_s[False], "a result that nobody has fetched"


@pytest.mark.fault("F9", tier="code")
def test_credentials_that_expire_in_training_cost_no_result(tmp_path: Path) -> None:
    """The adapter comes home, for SSH asks no cloud. Who can't be asked is told; the deadline holds, `down` closes all."""
    expired = tuple((1200.0, Fault(verb=verb, reason=Reason.UNKNOWN_CALLER, times=10**6)) for verb in VERBS)
    stage = Stage.set(dataclasses.replace(CALM, faults=expired), tmp_path)
    stage.send(CALM.controllers[0])

    assert stage.receipt is not None
    assert (stage.receipt.trained, stage.receipt.exit_code) == (True, Exit.STILL_BILLS)
    assert stage.receipt.teardown is not None
    assert str(Reason.UNKNOWN_CALLER) in stage.receipt.teardown.message
    assert len(stage.outside.standing) == 1
    assert stage.judged_when_nobody_came() + stage.judged_once_ended() + stage.judged_at_the_end() == []


@pytest.mark.fault("F14", tier="code")
def test_a_result_at_home_is_never_trained_for_again(tmp_path: Path) -> None:
    """Killed with the adapter at home, the box gone by its own deadline: whoever resumes finds the result and rents nothing."""
    schedule = dataclasses.replace(CALM, training=Training(work_s=600.0))
    for moment in itertools.count(40):
        stage = Stage.set(schedule, tmp_path / str(moment))
        assert stage.send(Controller("resume", pause_s=0.0, killed_at=moment)), "it ended before it had a result at home"
        if stage.is_home and not stage.state.over:
            break
    stage.outside.pass_time(stage.state.deadline_at_s + GRACE_S - stage.outside.now_s)
    assert stage.outside.standing == []
    stage.send(Controller("resume", pause_s=0.0))
    assert stage.receipt is not None
    assert (stage.receipt.exit_code, len(stage.outside.world.things)) == (Exit.OK, 1)


class KeepsElsewhere(MortalLedger):
    """A ledger of a run whose state lies elsewhere: told of a result, it notes how many boxes stand; then its writer dies."""

    def __init__(self, path: Path, outside: Outside, *, dies: bool) -> None:
        super().__init__(path, Life())
        self.boxes: list[int] = []
        self._outside, self._dies = outside, dies

    def put_away(self, outcome: Outcome, adapter: Path) -> None:
        assert sha256_of(adapter / outcome.adapter[0].path) == outcome.adapter[0].sha256
        self.boxes.append(len(self._outside.standing))
        if self._dies:
            raise Killed


@pytest.mark.fault("F14", tier="code")
@pytest.mark.parametrize("command", ["resume", "down"])
def test_a_result_goes_to_the_store_once_its_box_is_gone_and_again_after_a_kill(command: str, tmp_path: Path) -> None:
    """No box is paid for while it travels; whoever comes next sends it, rents nothing, and closes the books."""
    stage = Stage.set(dataclasses.replace(CALM, training=Training(work_s=600.0)), tmp_path)
    if command == "down":
        stage.send(Controller("resume", pause_s=0.0, killed_at=60))
        stage.outside.pass_time(3000.0)
    dying, next_one = (KeepsElsewhere(stage.places.ledger, stage.outside, dies=dies) for dies in (True, False))
    assert stage.send(Controller(command, pause_s=0.0), ledger=dying), "it is killed while it sends"
    assert (stage.is_home, stage.state.over, stage.state.billed) == (True, True, None)
    assert not stage.send(Controller(command, pause_s=0.0), ledger=next_one)
    assert (dying.boxes, next_one.boxes) == ([0], [0])
    assert stage.receipt is not None
    assert (stage.receipt.trained, len(stage.outside.world.things)) == (True, 1)


def test_a_result_that_another_machine_has_is_not_trained_for_again(tmp_path: Path) -> None:
    """Its box is gone, and its files are not here: whoever goes on is told so; `down` closes the books without it."""
    stage = Stage.set(dataclasses.replace(CALM, training=Training(work_s=600.0)), tmp_path)
    stage.send(CALM.controllers[0], ledger=KeepsElsewhere(stage.places.ledger, stage.outside, dies=True))
    shutil.rmtree(stage.places.run(stage.run_id).adapter)
    with pytest.raises(Refused, match="another machine has it"):
        drive(stage.run_id, Edges(stage.places, Quiet(), make=lambda _claim: NothingRented()))
    assert stage.state.billed is None
    stage.send(Controller("down", pause_s=0.0))
    assert stage.receipt is not None
    assert (stage.receipt.trained, stage.receipt.ending.result_made, len(stage.outside.world.things)) == (False, True, 1)


@pytest.mark.fault("F2", tier="code")
@pytest.mark.fault("F3", tier="code")
@pytest.mark.parametrize("moment", range(1, 60, 2))
def test_a_kill_at_any_moment_up_to_the_training_breaks_no_promise(moment: int, tmp_path: Path) -> None:
    """Nobody comes before the deadline; then one `down` closes everything."""
    schedule = dataclasses.replace(CALM, controllers=(Controller("resume", pause_s=0.0, killed_at=moment),))
    assert play(schedule, tmp_path).broken == ()


def left_alone(power_off: PowerOff) -> Schedule:
    """The controller is killed in mid-training, and nobody comes until long after the deadline."""
    settings = msgspec.structs.replace(CALM.settings, power_off=power_off)
    return dataclasses.replace(CALM, settings=settings, controllers=(Controller("resume", pause_s=0.0, killed_at=60),))


def test_a_box_that_its_timer_does_not_end_is_noticed(tmp_path: Path) -> None:
    """The judge is no yes-man: the same schedule, with and without a power-off that ends the bill."""
    assert play(left_alone(PowerOff.ENDS_BILL), tmp_path / "ends").broken == ()
    [past_deadline, *_] = play(left_alone(PowerOff.KEEPS_BILLING), tmp_path / "keeps").broken
    assert "lives past the deadline" in past_deadline
