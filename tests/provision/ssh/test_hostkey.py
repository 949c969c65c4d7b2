"""The host key that travelled is replaced by one that the box made, wherever that is cut off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Never

import msgspec
import pytest

from provision.direct.here import local_offer
from provision.errors import Declined, Reason, Scope, WrongHostKey
from provision.seam import Box
from provision.ssh import Completed, Shell, fetch_host_key, replace_host_key
from tests.provision.rigs import rig_of

pytestmark = pytest.mark.box


def test_the_key_that_travelled_is_replaced_by_one_that_the_box_made(tmp_path: Path) -> None:
    with rig_of("local box in a PID namespace", tmp_path) as rig:
        first = msgspec.structs.replace(rig.provisioner.up(local_offer(), rig.launch()), replace_host_key=True)
        written: list[Box] = []
        with rig.connect(first) as shell:
            second = replace_host_key(shell, first, written.append, key_file=f"{first.folder}/server/host_key")
            assert shell.run("echo still there").out == "still there\n"
        assert second.host_key != first.host_key
        assert written == [msgspec.structs.replace(first, coming_host_key=second.host_key), second]
        assert not second.replace_host_key
        assert fetch_host_key(second.host, second.port) == second.host_key
        with pytest.raises(WrongHostKey):
            rig.connect(first)
        with rig.connect(second) as shell:
            assert shell.run("true").rc == 0


def never(_box: Box) -> Never:
    pytest.fail("nothing has changed")


class Cut(Exception):
    """A line that breaks, or a controller that dies."""


def cut_after(shell: Shell, number: int, *, ran: bool) -> Callable[..., Completed]:
    """What stands for its `run`: the command of this number is lost, or its answer is."""
    really, commands = shell.run, list[str]()

    def run(command: str, **more: Any) -> Completed:
        commands.append(command)
        if len(commands) == number and not ran:
            raise Cut
        done = really(command, **more)
        if len(commands) == number:
            raise Cut
        return done

    return run


@pytest.mark.parametrize("again", ["the same controller", "another controller"])
@pytest.mark.parametrize(
    ("number", "ran"),
    [(1, False), (1, True), (2, False), (2, True), (3, True)],
    ids=["not made", "made, and not told", "not taken", "taken, and not told", "taken, and not written down"],
)
def test_a_host_key_that_was_replaced_half_way_loses_no_box(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, ran: bool, again: str
) -> None:
    """Whoever goes on from what was written down reaches it, by the one key or the other, and ends with the new one alone."""
    with rig_of("local box in a PID namespace", tmp_path) as rig:
        first = msgspec.structs.replace(rig.provisioner.up(local_offer(), rig.launch()), replace_host_key=True)
        key_file, written = f"{first.folder}/server/host_key", [first]
        with rig.connect(first) as shell:
            with monkeypatch.context() as cut:
                cut.setattr(shell, "run", cut_after(shell, number, ran=ran))
                with pytest.raises(Cut):
                    replace_host_key(shell, first, written.append, key_file=key_file)
            shell.hang_up()
            if again == "the same controller":
                last = replace_host_key(shell, written[-1], written.append, key_file=key_file)
        if again == "another controller":
            with rig.connect(written[-1]) as shell:
                last = replace_host_key(shell, written[-1], written.append, key_file=key_file)
        assert written[-1] == last
        assert (last.coming_host_key, last.replace_host_key) == (None, False)
        assert fetch_host_key(last.host, last.port) == last.host_key != first.host_key
        with pytest.raises(WrongHostKey):
            rig.connect(first)
        with rig.connect(last) as shell:
            assert shell.run("true").rc == 0


def test_a_box_that_can_not_make_a_host_key_is_no_good(tmp_path: Path, shell: Shell, box: Box) -> None:
    """Nothing was cut, so nobody waits until the deadline: another box is asked for."""
    unable = msgspec.structs.replace(box, replace_host_key=True)
    with pytest.raises(Declined, match="could not make a new host key") as declined:
        replace_host_key(shell, unable, never, key_file=str(tmp_path / "no" / "folder" / "key"))
    assert (declined.value.reason, declined.value.scope) == (Reason.HOST, Scope.OFFER)
    assert shell.run("true").rc == 0


def test_a_box_whose_key_never_travelled_keeps_it(shell: Shell, box: Box) -> None:
    assert replace_host_key(shell, box, never) is box
