"""The contract that every provisioner keeps, whatever it rents."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from provision.aboard.layers import read_layers
from provision.errors import ProvisionError
from provision.seam import Answer, Box, Launch
from tests.doubles import emulator
from tests.doubles.bench import set_up
from tests.provision.rigs import KINDS, RUN, Rig, await_true, rig_of

pytestmark = pytest.mark.box

STANDING_S = 600.0  # a box that tests share lives longer than they take on a busy computer
LONGER = (1, 2, 4, 8)  # times its life, for a computer that is too busy to begin a task within it
PATIENCE_S = 120.0  # after its deadline: a minute more than any kind takes on an idle computer
CLOCKS_S = 3.0  # whole seconds, here and there, and a busy computer between two looks


@pytest.fixture(params=[pytest.param(name, marks=row.marks) for name, row in KINDS.items()])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """Nothing is up; whatever a test has left is ended."""
    cloud = KINDS[request.param].cloud
    bench = request.getfixturevalue("bench_at")(cloud) if cloud else None
    with rig_of(request.param, tmp_path, bench) as rig:
        yield rig


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=(*row.marks, pytest.mark.xdist_group(f"up: {name}"))) for name, row in KINDS.items()],
)
def standing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, Launch, Box]]:
    """One box that is up, for all tests that leave it as it was: a box of a cloud takes ten seconds, a question one."""
    folder, cloud = tmp_path_factory.mktemp("standing"), KINDS[request.param].cloud
    with ExitStack() as held:
        bench = None
        if cloud:  # one of its own: other tests leave theirs empty
            emulated = held.enter_context(emulator.started(cloud, machines=True))
            bench = set_up(folder / "bench", request.getfixturevalue("engine"), emulated)
        rig = held.enter_context(rig_of(request.param, folder, bench))
        launch = rig.launch(deadline_at_s=time.time() + STANDING_S)
        yield rig, launch, rig.up(launch)


def test_a_box_that_is_up_answers_over_ssh_and_all_that_would_end_it_can_be_read_back(
    standing: tuple[Rig, Launch, Box],
) -> None:
    """With the key of the run. Nothing is missing or unknown, and something strikes at its deadline."""
    rig, launch, box = standing
    with rig.connect(box) as shell:
        assert shell.run("echo it is me").out == "it is me\n"
        assert shell.run(f"cd {box.folder} && touch mine").rc == 0
        on_box = read_layers(shell, rig.provisioner.look, now_s=time.time()) if rig.provisioner.look else ()
    layers = (*rig.provisioner.layers(launch), *on_box)
    assert {layer.there for layer in layers} == {Answer.YES}, layers
    assert min(layer.strikes_at_s or math.inf for layer in layers) == pytest.approx(launch.deadline_at_s, abs=CLOCKS_S)


def test_what_is_up_is_found_by_its_tag_and_not_by_another(standing: tuple[Rig, Launch, Box]) -> None:
    rig, launch, box = standing
    mine = rig.provisioner.owned(launch)
    assert mine.complete is Answer.YES
    assert mine.resources
    assert not mine.lacks(box), "a box that is up is there, whether it bills or not"
    assert {resource.run_id for resource in mine.resources} == {RUN}
    assert rig.provisioner.owned(rig.launch(run_id="run-2")).resources == ()
    assert {resource.run_id for resource in rig.provisioner.owned().resources} == {RUN}


def test_a_second_box_for_the_same_run_is_refused_and_the_first_lives_on(standing: tuple[Rig, Launch, Box]) -> None:
    rig, launch, box = standing
    with pytest.raises(ProvisionError):
        rig.up(launch)
    with rig.connect(box) as shell:
        assert shell.run("true").rc == 0


def test_letting_in_again_shuts_nobody_out(standing: tuple[Rig, Launch, Box]) -> None:
    """Also where there is no gate to open: whoever finds a box silent asks for it and need not know."""
    rig, launch, box = standing
    rig.provisioner.readmit(launch)
    with rig.connect(box) as shell:
        assert shell.run("true").rc == 0


def test_destroy_leaves_nothing_and_names_what_it_ended(kind: Rig) -> None:
    box = kind.up()
    teardown = kind.provisioner.destroy(kind.launch())
    assert teardown.verdict == ("destroyed" if box.ours else "cleaned")
    assert {end.gone for end in teardown.resources} == {Answer.YES}
    assert kind.provisioner.owned().resources == ()
    assert kind.provisioner.owned(kind.launch()).lacks(box)
    assert kind.row.is_gone(box)


def test_destroying_twice_or_without_a_box_is_clean(kind: Rig) -> None:
    assert kind.provisioner.destroy(kind.launch()).clean
    kind.up()
    assert kind.provisioner.destroy(kind.launch()).clean
    again = kind.provisioner.destroy(kind.launch())
    assert again.clean
    assert again.resources == ()


def test_two_runs_do_not_touch_each_other(kind: Rig) -> None:
    other = kind.launch(run_id="run-2")
    box = kind.up()
    kind.up(other)
    assert kind.provisioner.destroy(other).clean
    with kind.connect(box) as shell:
        assert shell.run("true").rc == 0


def test_a_box_comes_up_again_after_its_end(kind: Rig) -> None:
    kind.up()
    kind.provisioner.destroy(kind.launch())
    box = kind.up()
    with kind.connect(box) as shell:
        assert shell.run("true").rc == 0


@pytest.mark.long
def test_the_deadline_ends_it_alone_after_the_controller_was_killed(kind: Rig) -> None:
    """Not before, and with nobody's help. A life that was over before its task had begun shows nothing: a longer one does."""
    for life_s in (kind.row.life_s * factor for factor in LONGER):
        deadline_at_s = math.ceil(time.time()) + life_s
        if outlived_its_controller(kind, deadline_at_s):
            break
        assert kind.provisioner.destroy(kind.launch()).clean
    else:
        pytest.fail(f"no box of {life_s} s came up and began its task in time")
    await_true(lambda: kind.row.is_over(kind), patience_s=life_s + PATIENCE_S)
    assert time.time() >= deadline_at_s
    assert kind.provisioner.destroy(kind.launch()).clean


def outlived_its_controller(kind: Rig, deadline_at_s: int) -> bool:
    """Whether the task of a box was there after its controller was killed; False only once the deadline has come."""
    command = [sys.executable, "-m", "tests.provision.rigs", kind.kind, str(kind.folder), RUN, str(deadline_at_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as controller:
        assert controller.stdout
        began = controller.stdout.readline() == b"up\n"
        controller.kill()
    there = began and kind.tasks() != []
    assert there or time.time() >= deadline_at_s, "the task died with its controller, long before the deadline"
    return there
