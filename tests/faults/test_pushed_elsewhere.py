"""A box that is taken away with its disk: what it had pushed to object storage is what the next one goes on with."""

from __future__ import annotations

import dataclasses
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.errors import Exit, Reason
from provision.home.checkpoints import steps_at_home
from provision.state.checkpoints import PushedCheckpoints, pushed_folder
from provision.store.bucket import Bucket
from provision.walk.job.carrying import PUSHED
from provision.walk.run import walk
from provision.watch.view import read_events
from remote.checkpoints.grants import Grants
from remote.contract import EVENTS_FILE
from tests.doubles.displays import Quiet
from tests.doubles.proxy import Proxy
from tests.doubles.services.bucket import Storage
from tests.faults.probe import Probe
from tests.faults.rehearsal import Rehearsal, wait_until
from tests.faults.standins import LEARN, PUSH, ScriptedBox
from tests.faults.test_elsewhere import LEARNS, opened

pytestmark = pytest.mark.box

# It tells the controller of no checkpoint.
PUSHES = (
    "[ ! -e checkpoints ] || rm $RENTUNE_GRANTS\n"
    + LEARNS.partition(LEARN)[0]
    + f"{LEARN}\n"
    + "  {python} {push}; sleep 600\nfi"
)
TELLS_TWICE = LEARNS.replace("  sleep 600", "  cp events.jsonl once; cat once >> events.jsonl; sleep 600")


@pytest.fixture
def line() -> Iterator[Proxy]:
    with Proxy(target_port=0) as line:
        yield line


@dataclasses.dataclass(frozen=True)
class Told(PushedCheckpoints):
    """Names what it grants to a probe."""

    probe: Probe

    def grant(self, *, valid_s: float) -> Grants:
        grants = super().grant(valid_s=valid_s)
        signatures = (address.rpartition("X-Amz-Signature=")[2] for place in grants.places for address in place.values())
        self.probe.secrets.update({f"address {each[:8]}": each for each in signatures})
        return grants


@pytest.mark.fault("F16", tier="box")
@pytest.mark.fault("F26", tier="box")
def test_what_was_pushed_is_gone_on_with_and_no_address_was_to_be_seen(
    rehearsal: Rehearsal, line: Proxy, stored: Storage
) -> None:
    """Nothing came home while the box lived. The addresses were in no command line, no environment, no file and no output."""
    push = rehearsal.folder / "push.py"
    push.write_text(PUSH)
    box = ScriptedBox(rehearsal, line, PUSHES.replace("{python}", sys.executable).replace("{push}", str(push)))
    run = opened(rehearsal, box, purchase="spot")
    bucket, display = Bucket(f"{stored.place}/elsewhere"), Quiet()

    def take_away() -> None:
        wait_until(lambda: _kept_step(run.folder.root / EVENTS_FILE) == 4)
        assert steps_at_home(run.folder.checkpoints) == []
        box.destroy(run.claim)

    threading.Thread(target=take_away, daemon=True).start()
    with Probe({}) as probe:
        receipt = walk(dataclasses.replace(run, pushed=Told(bucket, run.run_id, probe), display=display))
    assert receipt.exit_code == Exit.OK, receipt.ending.message
    assert [each.reason for each in receipt.tries] == [Reason.LOST, None]
    pushed = [event.data["size_bytes"] for event in read_events(run.folder.tries / "1" / EVENTS_FILE) if event.kind == PUSHED]
    assert (len(pushed), [each.sent_bytes for each in run.state.rentals]) == (2, [sum(pushed), 0]), "metered as sent"
    assert run.folder.log.read_text() == "weights of 00000002weights of 00000004"
    assert "The checkpoint of step 4 came home from object storage." in display.notes
    assert list(bucket.names("runs")) == [], "the result is at home, so the way there costs nothing more"
    assert len(probe.secrets) > 16
    assert probe.seen == set()
    assert probe.in_files(rehearsal.places.home, rehearsal.folder, Path("/dev/shm")) == []
    assert probe.in_text(" ".join(display.notes).encode()) == []


def test_a_store_that_is_away_holds_nothing_up(rehearsal: Rehearsal, line: Proxy, stored: Storage) -> None:
    """The trainer has no grants then, and its checkpoints come home as they do without a store."""
    box = ScriptedBox(rehearsal, line, TELLS_TWICE)
    run = opened(rehearsal, box, purchase="spot")
    display = Quiet()
    stored.away = True
    pushed = PushedCheckpoints(Bucket(f"{stored.place}/away"), pushed_folder(run.run_id))

    def take_away() -> None:
        wait_until(lambda: len(steps_at_home(run.folder.checkpoints)) == 2)
        box.destroy(run.claim)

    threading.Thread(target=take_away, daemon=True).start()
    receipt = walk(dataclasses.replace(run, pushed=pushed, display=display))
    assert receipt.exit_code == Exit.OK, receipt.ending.message
    assert [each.reason for each in receipt.tries] == [Reason.LOST, None]
    assert run.folder.log.read_text() == "weights of 00000002weights of 00000004"
    for words in ("Checkpoints stay on the box", "did not come home from object storage", "stay in object storage"):
        assert any(words in note for note in display.notes), words


def _kept_step(events: Path) -> int | None:
    lines = events.read_text().splitlines() if events.exists() else []
    return 4 if any('"checkpoint_pushed"' in line and '"step":4' in line for line in lines) else None
