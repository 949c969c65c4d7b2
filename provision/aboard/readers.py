"""What reads a base that others packed, over the box's stack: only a run whose base lies so needs it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from provision.aboard.compiler import is_seen_to
from provision.aboard.ship import PACKAGE, UNLESS_BUILT, Environment, ensure_built, is_built, stack_hash
from provision.errors import ProvisionError
from provision.seam import Box
from remote.contract import STORED_QUANTS, Strategy

if TYPE_CHECKING:
    from provision.ssh import Shell

REQUIREMENTS: Final = PACKAGE / "requirements-stored.txt"

# Of "$python", an environment that has the stack: a further one that sees it. The lock is whole, nothing is looked up beside
# it, and what has not its hash is refused. Some of it is published as sources alone, one in C, so it is built here; what builds
# it has no lock, since two ask for versions of setuptools that exclude each other.
BUILD_OVER: Final = (
    UNLESS_BUILT
    + """\
PATH="$HOME/.local/bin:$PATH"
locked="--require-hashes --no-deps"
if command -v uv > /dev/null; then
  uv venv --quiet --python "$python" "$stack"
  uv pip install --python "$stack/bin/python" --compile-bytecode $locked -r "$requirements"
else
  "$python" -m venv "$stack"
  "$stack/bin/python" -m pip install --disable-pip-version-check --no-input $locked -r "$requirements"
fi
packages='import sysconfig; print(sysconfig.get_path("purelib"))'
"$python" -c "$packages" > "$("$stack/bin/python" -c "$packages")/stack.pth"
printf %s "$hash" > "$stack/$mark"
"""
)


def readers_hash() -> str:
    """Hex sha256 of both locks: the name of the environment that reads such a base."""
    return hashlib.sha256(stack_hash().encode() + REQUIREMENTS.read_bytes()).hexdigest()


def ensure_readers(
    shell: Shell, box: Box, strategy: Strategy, python: str, *, progress: Callable[[str], None] = lambda _: None
) -> str:
    """`python`, an interpreter on the box that has the stack; for a base that others packed one that has what reads it, too.

    Raises ProvisionError with the build's last words, and where the box has no compiler.
    """
    if strategy.quant not in STORED_QUANTS:
        return python
    use = f"what reads a base in {STORED_QUANTS[strategy.quant]}"
    if not is_built(shell, box, readers_hash()) and not is_seen_to(shell, box, python, use, progress=progress):
        why = f"{box.host} has no C compiler with Python's headers, and {use} comes as sources alone"
        raise ProvisionError(why, hint="sudo apt-get install gcc libc6-dev python3-dev")
    made = Environment(sha256=readers_hash(), requirements=REQUIREMENTS, build=BUILD_OVER, settings={"python": python})
    return ensure_built(shell, box, made, progress)
