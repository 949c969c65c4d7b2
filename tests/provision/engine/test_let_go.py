"""A machine that shuts down while its supervisor has a box ordered or ended, and beside a `down`: at AWS, in each home."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from provision.account.runs import Standing
from provision.errors import Exit
from provision.home.places import RunFolder
from provision.state.shared import PASSPHRASE
from tests.doubles.bench import Bench
from tests.doubles.services.bucket import Storage
from tests.provision.engine.killing import PATIENCE_S, called, the_engine, wait_until
from tests.provision.engine.supervising import ended, opened, processes, said_by, state_of

pytestmark = [pytest.mark.engine, pytest.mark.fault("F8", tier="engine")]
IN_THE_CALL = "sleep 6"  # so long a `down` may take to begin; where it takes longer the signals come a step later
Opens = Callable[[str], Bench]  # where its state lies → the bench of a run that was agreed to


@pytest.fixture
def opens(bench: Bench, tmp_path: Path, stored: Storage, monkeypatch: pytest.MonkeyPatch) -> Opens:
    monkeypatch.setenv(PASSPHRASE, "only the user knows this")
    urls = {"at home": None, "in a store": f"{stored.place}/{tmp_path.name}"}
    return lambda lies: opened(bench, tmp_path, state_url=urls[lies])


def require_over(bench: Bench) -> None:
    """The cloud has nothing of the run, its books are closed, and its engine's files are gone."""
    state = state_of(bench)
    assert (bench.listed().nothing, state.standing, state.billed is not None) == (True, Standing.OVER, True)
    assert not (RunFolder(bench.launch.folder).engine / "state").exists()


@pytest.mark.parametrize(("lies", "number"), [("at home", signal.SIGHUP), ("in a store", signal.SIGTERM)])
def test_a_create_that_was_let_go_of_is_ended_by_whoever_comes(opens: Opens, lies: str, number: signal.Signals) -> None:
    """The engine hears it, too. The supervisor dies of it and closes no books; `down` finds by the tag what was made."""
    bench = opens(lies)
    bench.faults.plant("create", "after", "Instance", IN_THE_CALL, once=True)
    with processes(bench) as start:
        supervisor = start("supervise")
        wait_until(lambda: called(bench, "after create Instance"))
        the_engine(bench).send_signal(number)
        supervisor.send_signal(number)
        assert supervisor.wait(PATIENCE_S) == -number
        assert state_of(bench).may_bill
        assert "this process ends. Nothing trains on its box yet, which ends itself" in said_by(bench, "supervise").read_text()
        assert ended(bench).verdict == "destroyed"
    require_over(bench)


def test_a_create_that_somebody_had_asked_to_end_is_ended_by_its_supervisor(opens: Opens) -> None:
    """`down` has asked, and then the machine shuts down, `down` and all: an instance was left to bill."""
    bench = opens("in a store")
    bench.faults.plant("create", "after", "Instance", IN_THE_CALL, once=True)
    with processes(bench) as start:
        supervisor = start("supervise")
        wait_until(lambda: called(bench, "after create Instance"))
        down = start("down")
        wait_until(lambda: "Asking its controller" in said_by(bench, "down").read_text())
        for struck in (down, supervisor):
            struck.send_signal(signal.SIGTERM)
        down.wait(PATIENCE_S)
        assert supervisor.wait(PATIENCE_S) == Exit.INTERRUPTED
    require_over(bench)


def test_a_destroy_goes_on_though_everybody_is_told_to_go(opens: Opens) -> None:
    """Supervisor, engine and the `down` that waits: what is being ended is ended first."""
    bench = opens("in a store")
    bench.faults.plant("delete", "before", "Instance", IN_THE_CALL, once=True)
    with processes(bench) as start:
        supervisor = start("supervise")
        wait_until(lambda: state_of(bench).phase == "boot")
        down = start("down")
        wait_until(lambda: called(bench, "before delete Instance"))
        for send in (the_engine(bench).send_signal, down.send_signal, supervisor.send_signal):
            send(signal.SIGHUP)
        down.wait(PATIENCE_S)
        assert supervisor.wait(PATIENCE_S) == Exit.INTERRUPTED
    require_over(bench)
