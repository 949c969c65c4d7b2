"""A machine that reboots between two controllers: the second one finds that by the boot id, and starts the trainer again.

With a real systemd, sshd and power-off, and nothing of a cloud's but its API; what a controller says of it is told in
tests/faults/controllers/test_resume.py, and the whole run through the engine in tests/provision/engine/test_walk.py.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from provision.aboard import job
from provision.aboard.detached import TaskState
from provision.errors import ConnectionFailed
from provision.seam import Box
from provision.ssh import Shell
from tests.provision.aboard.test_job import EVENT, SPEC
from tests.provision.clouds.boot.test_first_boot import boot, box, cloud, instance, key  # noqa: F401 - the machine
from tests.provision.rigs import BOOT_S, await_true

pytestmark = pytest.mark.root
BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
# At first it never comes to its end; begun again it has one more word, and leaves.
TRAINER = f"#!/bin/sh\n{EVENT}\n[ -e once ] || {{ touch once; event 0 begun; sleep 1000; }}\nevent 1 resumed\n"


@pytest.mark.fault("F12", tier="box")
def test_the_next_controller_finds_that_the_machine_was_rebooted(box: Box, key: Path, tmp_path: Path) -> None:  # noqa: F811
    """The trainer is gone and its pid means nothing; it is started again once, where the files are, and ends."""
    python, mirror = f"{box.folder}/python", tmp_path / "events.jsonl"
    with Shell.connect(box, key=key, deadline_s=BOOT_S) as first:
        await_true(
            lambda: first.run(f"cat > {python} && chmod 755 {python}", stdin=TRAINER.encode()).rc == 0, patience_s=BOOT_S
        )
        job.start(first, box, SPEC, python=python)
        assert job.state(first, box) == TaskState(state="running")
        await_true(lambda: first.run(f"cat {job.job_folder(box)}/once").rc == 0)
        before = first.run(BOOT_ID).out
        with suppress(ConnectionFailed):  # whichever is faster
            first.run("sudo -n systemctl --no-block reboot")

    def boot_id_now() -> str:
        with suppress(ConnectionFailed), Shell.connect(box, key=key, deadline_s=BOOT_S) as shell:
            return shell.run(BOOT_ID).out
        return before

    await_true(lambda: boot_id_now() != before, patience_s=BOOT_S)
    with Shell.connect(box, key=key, deadline_s=BOOT_S) as second:
        seen = job.state(second, box)
        assert (seen.state, seen.rebooted, seen.stopped) == ("killed", True, False)
        job.start(second, box, SPEC, python=python)
        assert [event.kind for event in job.events(second, box, mirror)] == ["begun", "resumed"]
        await_true(lambda: job.state(second, box) == TaskState(state="ended", rc=0))
