"""A C compiler on a box whose job has kernels made there: Triton builds what launches them with gcc and Python's headers."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from provision.aboard import detached
from provision.aboard.marks import marks
from provision.seam import Box
from remote.contract import LOG_FILE, Strategy

if TYPE_CHECKING:
    from provision.ssh import Shell

PACKAGES: Final = ("gcc", "libc6-dev")  # and the headers of the system's python, where its interpreter has none
TRY_S: Final = 300  # assumed: of apt-get, once; most of it is fetching lists and 60 MB
MISSING: Final = "has no C compiler: its blocks are computed eagerly, as kernels eager says, which the probe's forecast counts"

# Whether Triton would find what it builds with: $CC, gcc or clang, and the headers of the interpreter that trains.
LOOK: Final = """\
compiler() { for each in "$CC" gcc clang; do [ -z "$each" ] || ! command -v "$each" > /dev/null || return 0; done; return 1; }
headers() { [ -e "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ]; }
"""
INSTALL: Final = (
    LOOK
    + """\
packages=
compiler || packages="$wanted"
headers || packages="$packages $("$python" -c 'import sys; print("python%d.%d-dev" % sys.version_info[:2])')"
as_root=; [ "$(id -u)" = 0 ] || as_root="sudo -n"
export DEBIAN_FRONTEND=noninteractive
for step in update "install --no-install-recommends $packages"; do
  timeout "$try_s" $as_root apt-get --yes --quiet -o DPkg::Lock::Timeout="$try_s" -o Acquire::Retries=3 $step || exit 1
done
compiler && headers
"""
)


def ensure_compiler(shell: Shell, box: Box, strategy: Strategy, python: str, *, progress: Callable[[str], None]) -> bool:
    """Whether kernels can be made on the box: asked where the strategy wants some, and seen to on a box that is rented.

    A machine that stays is left as it is. What can't be installed stops nothing: it is told, and the trainer computes eagerly.
    """
    if strategy.kernels == "eager":
        return True
    if is_seen_to(shell, box, python, f"kernels {strategy.kernels}", progress=progress):
        return True
    progress(f"{box.host} {MISSING}")
    return False


def is_seen_to(shell: Shell, box: Box, python: str, use: str, *, progress: Callable[[str], None]) -> bool:
    """Whether a compiler and the headers of `python` are there, put there now for `use` where the box is rented."""
    if _is_there(shell, python):
        return True
    if not box.ours or box.shares_files:
        return False
    progress(f"installing a C compiler for {use}")
    _install(shell, box, python, progress)
    return _is_there(shell, python)


def _is_there(shell: Shell, python: str) -> bool:
    return shell.run(f"python={shlex.quote(python)}; {LOOK}compiler && headers").rc == 0


def _install(shell: Shell, box: Box, python: str, progress: Callable[[str], None]) -> None:
    """Goes on without the connection, and is never done twice at once."""
    folder = f"{box.folder}/compiler"
    settings = {"python": python, "wanted": " ".join(PACKAGES), "try_s": str(TRY_S)}
    own = marks(Path(box.folder).parent, box.run_id)
    detached.start(shell, folder, INSTALL, settings | own, again=(detached.ANY_RC,))
    with tempfile.TemporaryDirectory() as mirror:
        for line in shell.follow(
            f"{folder}/{LOG_FILE}",
            Path(mirror) / LOG_FILE,
            alive=lambda: detached.state(shell, folder).state in ("running", "unknown"),
        ):
            progress(line.decode(errors="replace"))
