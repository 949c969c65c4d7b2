"""The same job on another box, where the first was not to be had, never answered, or was taken away: on the real local box."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path

import msgspec
import pytest

from catalogs.hardware import Offer
from planner.plan import Plan
from provision.aboard import driver_wait
from provision.aboard.renewal import attended
from provision.account.bill import rental_usd, rounded
from provision.account.receipt.value import Receipt
from provision.charge.rings.bell import bell
from provision.errors import Declined, Exit, Reason, Scope
from provision.home.checkpoints import steps_at_home
from provision.seam import Box, Launch
from provision.walk.driven import Reach, Run, read_run
from provision.walk.edges import Edges
from provision.walk.run import walk
from remote.contract import EXIT_CODES, EndReason, Measured, Outcome, Phase, encode
from tests.doubles.displays import Quiet
from tests.doubles.proxy import Proxy
from tests.doubles.services.webhook import Heard, Letters, webhook
from tests.faults.rehearsal import Rehearsal, wait_until
from tests.faults.standins import FINISH, LEARN, ScriptedBox
from tests.provision.plans import about

pytestmark = pytest.mark.box

HERE, THERE = "local/here/this-machine/on_demand", "local/there/this-machine/on_demand"


@pytest.fixture
def line() -> Iterator[Proxy]:
    with Proxy(target_port=0) as line:
        yield line


def elsewhere(plan: Plan, region: str, *, usd_per_hour: str = "3.60", purchase: str = "on_demand") -> Plan:
    offer = msgspec.structs.replace(plan.offer, region=region, usd_per_hour=Decimal(usd_per_hour), purchase=purchase)
    return msgspec.structs.replace(plan, offer=offer)


def boots_at_once(plan: Plan) -> Plan:
    duration = msgspec.structs.replace(plan.duration, phase_s=plan.duration.phase_s | {Phase.BOOT.value: about(0.1)})
    return msgspec.structs.replace(plan, duration=duration)


def opened(
    rehearsal: Rehearsal,
    box: ScriptedBox,
    *,
    purchase: str = "on_demand",
    deadline_s: float = 120.0,
    alerts: tuple[str, ...] = (),
    change: Callable[[Plan], Plan] = lambda plan: plan,
) -> Run:
    """A run of a plan here, with the same at twice the price there."""
    plan = change(elsewhere(boots_at_once(rehearsal.plan(steps=8)), "here", purchase=purchase))
    there = elsewhere(plan, "there", usd_per_hour="7.20", purchase=purchase)
    run_id = rehearsal.open(deadline_s=deadline_s, change=lambda _: plan, alternatives=(there,), alerts=alerts)
    run = read_run(run_id, Edges(rehearsal.places, Quiet(), make=lambda _claim: box), ledger=rehearsal.ledger)
    return dataclasses.replace(
        run,
        agrees=lambda _: True,
        clocks=dataclasses.replace(run.clocks, sleep=lambda seconds: time.sleep(min(seconds, 0.3))),
        reach=Reach(least_boot_s=0.5, attended=partial(attended, every_s=0.5)),
    )


def require_bill(receipt: Receipt, run: Run) -> None:
    """To the hundredth of a cent: the failed at its price, the last at its own."""
    *failed, last = run.state.rentals
    lines = {line.name: line.metered_usd for line in receipt.bill}
    assert lines["failed attempts"] == rounded(sum((rental_usd(each, now_s=0.0) for each in failed), Decimal(0)))
    assert lines["compute"] + lines["idle"] == rental_usd(last, now_s=0.0)
    assert receipt.metered_usd == sum(each.usd for each in receipt.tries)


class FullHere(ScriptedBox):
    """Has no room here, and room there."""

    def up(self, offer: Offer, launch: Launch) -> Box:
        if offer.region == "here":
            raise Declined("No room here.", reason=Reason.CAPACITY, scope=Scope.OFFER)
        return super().up(offer, launch)


class SilentHere(ScriptedBox):
    """A box here boots and never answers."""

    def up(self, offer: Offer, launch: Launch) -> Box:
        box = super().up(offer, launch)
        if offer.region == "here":
            self.line.cut()
        else:
            self.line.heal()
        return box


# A trainer that has done four steps, says so, and would go on for long; with its checkpoint it is soon done.
LEARNS = (
    "if [ -e checkpoints/step-00000004/progress.json ]; then cat checkpoints/step-*/trainable.safetensors > log; "
    + FINISH
    + "\nelse\n"
    + LEARN
    + """
  printf '{"seq":0,"kind":"checkpoint","phase":"train","at_s":1,"monotonic_s":1,"data":{"step":4,"size_bytes":9}}\\n' \\
    > events.jsonl
  sleep 600
fi"""
)


# The same, told first that its machine will be taken back.
NOTICED = LEARNS.replace("> events.jsonl", ">> events.jsonl").replace(
    "else\n",
    """else
  printf '{"seq":0,"kind":"spot_notice","phase":"train","at_s":1,"monotonic_s":1,"data":{"left_s":120}}\\n' > events.jsonl
""",
)


@pytest.mark.fault("F16", tier="box")
def test_a_machine_that_will_be_taken_back_is_left_as_soon_as_its_checkpoint_is_at_home(
    rehearsal: Rehearsal, line: Proxy
) -> None:
    """Nobody waits for the end of it: it is ended by us, seen to be gone, and the next goes on. Both are told."""
    letters = Letters(rehearsal.folder / "letters")
    with webhook(Heard()) as heard:
        box = ScriptedBox(rehearsal, line, NOTICED)
        run = opened(rehearsal, box, purchase="spot", alerts=(heard.url, letters.command))
        with bell(run) as ringing:
            receipt = walk(ringing.run)
    assert receipt.exit_code == Exit.OK, receipt.ending.message
    assert heard.kinds() == ["spot_notice", "moved"]
    assert letters.bodies() == heard.bodies
    assert [(each.reason, each.message) for each in receipt.tries] == [
        (Reason.LOST, "The provider takes the machine back; step 4 is at home."),
        (None, ""),
    ]
    assert run.folder.log.read_text() == "weights of 00000002weights of 00000004"
    require_bill(receipt, run)


@pytest.mark.fault("F16", tier="box")
def test_a_spot_machine_that_is_taken_away_is_followed_by_one_that_goes_on_from_its_checkpoint(
    rehearsal: Rehearsal, line: Proxy
) -> None:
    """Newest and best were at home, each with its hash; what the first cost is a failed attempt's, and no step is lost."""
    box = ScriptedBox(rehearsal, line, LEARNS)
    run = opened(rehearsal, box, purchase="spot")

    def take_away() -> None:
        wait_until(lambda: len(steps_at_home(run.folder.checkpoints)) == 2)
        box.destroy(run.claim)

    threading.Thread(target=take_away, daemon=True).start()
    receipt = walk(run)

    assert receipt.exit_code == Exit.OK, receipt.ending.message
    assert [(each.offer, each.reason) for each in receipt.tries] == [
        ("local/here/this-machine/spot", Reason.LOST),
        ("local/there/this-machine/spot", None),
    ]
    assert run.folder.log.read_text() == "weights of 00000002weights of 00000004"
    assert [each.sent_bytes > len("weights of 00000002weights of 00000004") for each in run.state.rentals] == [True, False]
    assert (run.folder.tries / "1/events.jsonl").exists()
    assert not run.folder.checkpoints.exists()
    require_bill(receipt, run)


def test_a_machine_on_demand_that_is_gone_is_not_followed_by_another(rehearsal: Rehearsal, line: Proxy) -> None:
    """Nobody takes those by right: somebody ended it, and does not want the next one either."""
    box = ScriptedBox(rehearsal, line, f"touch $HERE/begun; {LEARNS}")
    run = opened(rehearsal, box)

    def take_away() -> None:
        wait_until((rehearsal.folder / "stack/begun").exists)
        box.destroy(run.claim)

    threading.Thread(target=take_away, daemon=True).start()
    receipt = walk(run)
    assert receipt.exit_code == Exit.FAILED
    assert receipt.ending.message == "The box is gone before its deadline, and not by us."
    assert len(receipt.tries) == 1


def test_what_is_full_here_is_trained_there(rehearsal: Rehearsal, line: Proxy) -> None:
    """At its own price; what was declined costs nothing and stands in the receipt."""
    run = opened(rehearsal, FullHere(rehearsal, line, FINISH))
    receipt = walk(run)
    assert receipt.exit_code == Exit.OK, receipt.ending.message
    assert [(each.offer, each.reason) for each in receipt.tries] == [(HERE, Reason.CAPACITY), (THERE, None)]
    assert (receipt.offer, receipt.usd_per_hour) == (THERE, Decimal("7.20"))
    assert receipt.tries[0].usd == 0
    require_bill(receipt, run)
    assert (run.folder.adapter / "adapter.safetensors").exists()


def test_a_box_that_never_answers_is_ended_and_another_asked_for(rehearsal: Rehearsal, line: Proxy) -> None:
    """It was there for so long, and is billed for that."""
    run = opened(rehearsal, SilentHere(rehearsal, line, FINISH))
    receipt = walk(run)
    assert receipt.exit_code == Exit.OK, receipt.ending.message
    assert [(each.reason, each.usd > 0) for each in receipt.tries] == [(Reason.HOST, True), (None, True)]
    require_bill(receipt, run)
    assert rehearsal.is_gone(run.run_id)


class OldDriverHere(ScriptedBox):
    """A box whose first boot has seen to its driver; here that came to nothing."""

    def up(self, offer: Offer, launch: Launch) -> Box:
        said = "apt-get could not install 580-server-open: No room" if offer.region == "here" else f"{driver_wait.READY} 580"
        Path(driver_wait.MARK).write_text(f"{said}\n")
        return msgspec.structs.replace(super().up(offer, launch), installs_driver=True)


@pytest.mark.fault("F11", tier="box")
def test_a_box_that_gets_no_driver_is_ended_and_another_asked_for(
    rehearsal: Rehearsal, line: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is set up there; its time is billed, and the report says why."""
    monkeypatch.setattr(driver_wait, "MARK", str(rehearsal.folder / "mark"))
    run = opened(rehearsal, OldDriverHere(rehearsal, line, FINISH))
    receipt = walk(run)
    assert receipt.exit_code == Exit.OK, receipt.ending.message
    assert [(each.offer, each.reason, each.usd > 0) for each in receipt.tries] == [
        (HERE, Reason.HOST, True),
        (THERE, None, True),
    ]
    assert "none could be installed: apt-get could not install 580-server-open: No room." in receipt.tries[0].message
    require_bill(receipt, run)
    assert rehearsal.is_gone(run.run_id)


def test_a_trainer_that_a_reboot_ended_waits_for_that_boots_driver(
    rehearsal: Rehearsal, line: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each boot sees to it anew: a trainer that is quicker finds no card."""
    mark, log, display = rehearsal.folder / "mark", rehearsal.folder / "driver.log", Quiet()
    monkeypatch.setattr(driver_wait, "MARK", str(mark))
    monkeypatch.setattr(driver_wait, "LOG", str(log))

    class BootsAgain(ScriptedBox):
        def up(self, offer: Offer, launch: Launch) -> Box:
            mark.write_text(f"{driver_wait.READY} 580\n")
            return msgspec.structs.replace(super().up(offer, launch), installs_driver=True)

    def boots_again() -> None:
        wait_until(lambda: any("rentune-driver-word" in note for note in display.notes))
        mark.write_text(f"{driver_wait.READY} 580\n")

    log.write_text(f"{driver_wait.SAYS}rentune-driver-word\n")
    trains = f"""if [ ! -e $HERE/began ]; then touch $HERE/began; rm {mark}; exit {EXIT_CODES[EndReason.INTERRUPTED]}
elif [ -e {mark} ]; then {FINISH}
else cp $HERE/crashed.json outcome.json; exit 1; fi"""
    run = opened(rehearsal, BootsAgain(rehearsal, line, trains))
    threading.Thread(target=boots_again, daemon=True).start()
    receipt = walk(dataclasses.replace(run, display=display))
    assert receipt.exit_code == Exit.OK, receipt.ending.message


# A trainer that finds its first machine unfit, by its own look before it loads anything, and is content with the next.
LOOKS = "[ -e $HERE/looked ] || { touch $HERE/looked; cp $HERE/unfit.json outcome.json; exit 1; }\n" + FINISH


@pytest.mark.fault("F11", tier="box")
@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (EndReason.PREFLIGHT, "The driver is 470, and torch needs 580 or newer."),
        (EndReason.STALLED, "during train nothing went on for 301 s, where none before took 2 s"),
    ],
)
def test_a_box_that_is_not_what_was_ordered_is_ended_and_another_asked_for(
    rehearsal: Rehearsal, line: Proxy, reason: EndReason, said: str
) -> None:
    """No GPU, an old driver, memory that somebody has, a card that gives no answer: the trainer says which; its seconds there
    are billed.
    """
    box = ScriptedBox(rehearsal, line, LOOKS)
    run = opened(rehearsal, box)
    unfit = Outcome(run_id=run.run_id, reason=reason, message=said, phase_s={}, measured=Measured())
    (rehearsal.folder / "stack/unfit.json").write_bytes(encode(unfit))
    receipt = walk(run)
    assert receipt.exit_code == Exit.OK, receipt.ending.message
    assert [(each.offer, each.reason, each.usd > 0) for each in receipt.tries] == [
        (HERE, Reason.HOST, True),
        (THERE, None, True),
    ]
    assert said in receipt.tries[0].message
    require_bill(receipt, run)
    assert rehearsal.is_gone(run.run_id)
