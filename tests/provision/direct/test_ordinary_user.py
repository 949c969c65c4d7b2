"""The local box of somebody who is not root: the same specification, read by an ordinary user's own process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.provision.direct import test_local

pytestmark = pytest.mark.box

HERE = Path(__file__).parents[3]
UID = 12345  # nobody's on any machine that we know; must have a name and a shell, or no SSH server lets it in
SPECIFICATION = (
    test_local.test_the_box_shares_files_and_says_so,
    test_local.test_a_namespace_hides_this_machine_and_its_absence_does_not,
    test_local.test_destroy_finds_processes_that_did_all_to_be_forgotten,
    test_local.test_the_box_listens_on_loopback_only_and_admits_no_password,
)


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that an ordinary user may enter; pytest's own are root's alone."""
    with tempfile.TemporaryDirectory() as folder:
        if os.geteuid() == 0:
            os.chown(folder, UID, UID)
            (Path(folder) / "passwd").write_text(
                f"root:x:0:0::/root:/bin/sh\nsshd:x:1:1::/:/bin/false\nada:x:{UID}:{UID}::{folder}:/bin/sh\n"
            )
        yield Path(folder)


def _as_ordinary_user(home: Path) -> tuple[str, ...]:
    """What makes root an ordinary user, for whom this Python and this package can be read even where root's home holds them."""
    if os.geteuid() != 0:
        return ()
    hidden = ["--perms", "0755", "--tmpfs", str(Path.home())]
    for needed in {Path(sys.base_prefix), HERE, Path(sys.prefix)}:
        if needed.is_relative_to(Path.home()):
            between = [each for each in reversed(needed.parents) if each != Path.home() and each.is_relative_to(Path.home())]
            hidden += [word for each in between for word in ("--perms", "0755", "--dir", str(each))]
            hidden += ["--ro-bind", str(needed), str(needed)]
    passwd = ["--ro-bind", str(home / "passwd"), "/etc/passwd"]
    lesser = [f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
    return ("bwrap", "--dev-bind", "/", "/", *hidden, *passwd, "--cap-add", "ALL", "--", "setpriv", *lesser)


def test_an_ordinary_user_has_the_local_box_that_root_has(home: Path) -> None:
    names = " or ".join(each.__name__ for each in SPECIFICATION)
    options = ["-q", "-n0", "-p", "no:cacheprovider", f"--basetemp={home / 'tests'}", "-k", names]
    read = subprocess.run(
        [*_as_ordinary_user(home), sys.executable, "-m", "pytest", *options, test_local.__file__],
        cwd=HERE,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert read.returncode == 0, read.stdout + read.stderr
    assert "5 passed" in read.stdout
