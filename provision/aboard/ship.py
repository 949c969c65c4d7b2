"""What travels: the trainer package and its environment to the box, inputs to the box, the adapter home."""

from __future__ import annotations

import hashlib
import shlex
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from provision.aboard import detached
from provision.aboard.marks import marks
from provision.errors import ConnectionFailed, Declined, ProvisionError, Reason, Scope, Spoilt, TransferFailed
from provision.seam import Box
from remote import contract
from remote.contract import LOG_FILE, OUTPUT_DIR, Outcome
from remote.digest import sha256_of

if TYPE_CHECKING:
    from provision.ssh import Shell

PACKAGE = Path(contract.__file__).parent.parent
REQUIREMENTS = PACKAGE / "requirements.txt"
STACK_MARK = "rentune-stack.sha256"  # in an interpreter's prefix: hex sha256 of the requirements it was built from
LAST_LINES = 5  # assumed: pip and uv tell in so many which package has another hash
CACHE_LOOKS, CACHE_LOOK_S = (
    72,
    5.0,
)  # assumed: a minute longer than the box itself waits for its volume (clouds/boot/bootstrap.py)
DOWNLOADS = {  # a variable of the hub's client, uv and pip -> its folder in the cache
    "HF_HUB_CACHE": "hub",
    "UV_CACHE_DIR": "uv",
    "UV_PYTHON_INSTALL_DIR": "python",
    "PIP_CACHE_DIR": "pip",
}
PASSING = {  # a variable of a library of the trainer -> its folder in the run's own
    "HF_HUB_CACHE": "hub",
    "TRITON_CACHE_DIR": "triton",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "CUDA_CACHE_PATH": "cuda",
}
LeaveOut = Callable[[Path], bool]
NOTHING_LEFT_OUT: Mapping[Path, LeaveOut] = {}
LARGE_BYTES = 32 * 1024 * 1024  # assumed: two pieces; from here on a file of a folder travels by itself: in pieces, hashed

# An environment is built once a cache, by one process at a time; what is half there is begun anew
UNLESS_BUILT = """\
set -e
mkdir -p "$(dirname "$stack")"
exec 9> "$stack.lock"
flock 9
[ "$(cat "$stack/$mark" 2>/dev/null)" != "$hash" ] || exit 0
rm -rf "$stack"
"""

# Into "$stack" from "$requirements"; one at a time per cache, and the mark is the last thing written. The lock is whole, so
# nothing is looked up beside it, nothing is built, and a package that has not its hash is refused; and torch on a machine
# without an NVIDIA GPU needs no triton, which weighs a gigabyte.
BUILD = (
    UNLESS_BUILT
    + """\
if ! command -v nvidia-smi > /dev/null; then
  sed '/^triton==/,/[^\\]$/d' "$requirements" > "$requirements.cpu"
  requirements="$requirements.cpu"
fi
locked="--require-hashes --no-deps --only-binary :all:"
PATH="$HOME/.local/bin:$PATH"
if command -v uv > /dev/null; then
  uv venv --quiet --python '>=3.11' "$stack"
  uv pip install --python "$stack/bin/python" --compile-bytecode $locked -r "$requirements"
else
  python3 -m venv "$stack"
  "$stack/bin/python" -m pip install --disable-pip-version-check --no-input $locked -r "$requirements"
fi
printf %s "$hash" > "$stack/$mark"
"""
)

# Of an environment that lay on a volume: each file has the size that its package's own record says. A machine that was cut off
# may leave files without content beside a mark that is whole. Sizes alone: to read all of it takes longer than to install it.
AS_INSTALLED = """\
from importlib.metadata import distributions
for each in distributions():
    for file in each.files or ():
        place = file.locate()
        if file.size is not None and (not place.is_file() or place.stat().st_size != file.size):
            raise SystemExit(f"{file} of {each.name} is not as it was installed")
"""


def job_folder(box: Box) -> str:
    """The folder on the box that holds job.json and everything beside it."""
    return f"{box.folder}/job"


def make_room(box: Box) -> str:
    """What to look at where the box takes no file."""
    return f"See that its disk has room, and that its user may write below {box.folder}."


def package_folder(box: Box) -> str:
    """The folder on the box from which `python -m remote` is imported."""
    return f"{box.folder}/package"


def cache_folder(box: Box) -> str:
    """The folder on the box for what is dear to make again."""
    return box.cache or f"{box.folder}/cache"


def stacks_folder(box: Box) -> str:
    """The folder on the box for environments, each named by its lock's hash."""
    return box.stacks or f"{cache_folder(box)}/stacks"


def download_places(box: Box) -> dict[str, str]:
    """Where other people's tools keep what they fetch: on a volume that is kept, so that a further box need not fetch it."""
    if box.cache is None or box.shares_files:
        return {}
    return {name: f"{box.cache}/{folder}" for name, folder in DOWNLOADS.items()}


def passing_places(box: Box) -> dict[str, str]:
    """Where the trainer's libraries keep what this run alone needs, on a machine that is not ours and stays: in the run's
    folder, and so gone with it. One that goes needs none, and this machine keeps what it has for itself.
    """
    if box.ours or box.shares_files:
        return {}
    cache = cache_folder(box)
    return {"TMPDIR": job_folder(box)} | {name: f"{cache}/{folder}" for name, folder in PASSING.items()}


def box_marks(box: Box) -> dict[str, str]:
    """The environment by which whatever we start there is found again, even without a ledger."""
    return marks(Path(box.folder).parent, box.run_id)


def stack_hash() -> str:
    """Hex sha256 of remote/requirements.txt: the name of the environment that the box must have."""
    return hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()


def stack_is_here() -> bool:
    """Whether the interpreter that runs us has the trainer's packages, of just those versions."""
    mark = Path(sys.prefix) / STACK_MARK
    return mark.exists() and mark.read_text().strip() == stack_hash()


def ship_package(shell: Shell, box: Box) -> str:
    """Send `remote/` as one archive, unpack it below the box's folder, and return its sha256. Raises TransferFailed.

    One that is there is replaced once the new one is whole.
    """
    from provision.ssh.trees import write_tar

    folder = shlex.quote(package_folder(box))
    with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
        write_tar(archive, PACKAGE, lambda path: path.name == "__pycache__", prefix=PACKAGE.name)
        archive.flush()
        sha256 = shell.put(Path(archive.name), f"{package_folder(box)}.tar")
    fresh = shlex.quote(f"{package_folder(box)}.new")
    unpacked = f"rm -rf {fresh} && mkdir {fresh} && tar -xf {folder}.tar -C {fresh}"
    done = shell.run(f"{unpacked} && rm -rf {folder} && mv {fresh} {folder} && rm {folder}.tar")
    if done.rc != 0:
        raise TransferFailed(f"{box.host} could not unpack the trainer: {done.err.strip()}", hint=make_room(box))
    return sha256


def require_cache(shell: Shell, box: Box, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Return once the box has mounted the volume that holds its cache, where it has one. Raises Declined where it does not."""
    if not download_places(box):
        return
    for _ in range(CACHE_LOOKS):
        if shell.run(f"[ -w {shlex.quote(cache_folder(box))} ]").rc == 0:
            return
        sleep(CACHE_LOOK_S)
    raise Declined(f"{box.host} has not mounted the volume that is kept.", reason=Reason.HOST, scope=Scope.OFFER)


def ensure_environment(
    shell: Shell, box: Box, *, python: str | None = None, progress: Callable[[str], None] | None = None
) -> str:
    """Path of an interpreter on the box whose stack has the lock's hash: `python`, box.python, a cached one, or built now.

    One on a volume that was kept must be as it was installed, or is built anew.
    `progress` gets the build's lines. A build survives a lost connection and is never done twice at once.
    Raises ProvisionError with the build's last words.
    """
    for candidate in (python, box.python):
        if candidate and _has_stack(shell, candidate, stack_hash()):
            return candidate
    return ensure_built(shell, box, Environment(sha256=stack_hash(), requirements=REQUIREMENTS, build=BUILD), progress)


class Environment(NamedTuple):
    """What is built on a box, once."""

    sha256: str  # of all that is in it, hex; its name
    requirements: Path
    build: str  # a script: into "$stack" from "$requirements"; see `BUILD`
    settings: Mapping[str, str] = {}  # of that script, beside what each of them has


def ensure_built(shell: Shell, box: Box, made: Environment, progress: Callable[[str], None] | None = None) -> str:
    """Path of its interpreter: the one that was built before and is as it was installed, or is built now.

    Raises ProvisionError with the build's last words.
    """
    stack, built = _stack(box, made.sha256), interpreter(box, made.sha256)
    progress = progress or (lambda _: None)
    if is_built(shell, box, made.sha256):
        if not download_places(box):  # it was built on this very box
            return built
        looked = shell.run(f"{shlex.quote(built)} -c {shlex.quote(AS_INSTALLED)}")
        if looked.rc == 0:
            return built
        progress(f"{looked.err.strip()}: the environment is built anew")
        shell.run(f"rm -f {shlex.quote(stack)}/{STACK_MARK}")
    _build_stack(shell, box, stack, made, progress)
    return built


def interpreter(box: Box, sha256: str) -> str:
    """Of the environment of that name, whether it is built or not."""
    return f"{_stack(box, sha256)}/bin/python"


def is_built(shell: Shell, box: Box, sha256: str) -> bool:
    """Whether the environment of that name was built to its end."""
    return _has_stack(shell, interpreter(box, sha256), sha256)


def _stack(box: Box, sha256: str) -> str:
    return f"{stacks_folder(box)}/{sha256[:16]}"


def ship_inputs(
    shell: Shell, box: Box, files: Mapping[Path, str], *, leave_out: Mapping[Path, LeaveOut] = NOTHING_LEFT_OUT
) -> None:
    """Bring files and folders to their place on the box (relative: below the job folder); linked where files are shared.
    `leave_out`: by folder, what of it nobody reads there.

    Links in a folder travel as what they lead to. Raises TransferFailed, or ConnectionFailed.
    """
    for local, place in files.items():
        remote = str(PurePosixPath(job_folder(box)) / place)
        if box.shares_files:
            _link(shell, local, remote)
        elif local.is_dir():
            _ship_folder(shell, local, remote, leave_out.get(local, _no))
        else:
            shell.put(local, remote)


def fetch_adapter(shell: Shell, box: Box, outcome: Outcome, folder: Path) -> None:
    """Bring the adapter home into `folder`; each file must have its sha256. Files that are there and right are not sent again.

    Raises TransferFailed.
    """
    remote = PurePosixPath(job_folder(box)) / OUTPUT_DIR
    for file in outcome.adapter:
        local = folder / file.path
        if not local.resolve().is_relative_to(folder.resolve()):
            raise Spoilt(f"The box names an adapter file outside its folder: {file.path!r}.")
        if not (local.exists() and sha256_of(local) == file.sha256):
            shell.get(str(remote / file.path), local, sha256=file.sha256, num_bytes=file.size_bytes)


def _has_stack(shell: Shell, python: str, sha256: str) -> bool:
    quoted = shlex.quote(python)
    prefix = f'"$({quoted} -c "import sys; print(sys.prefix)")"'
    return shell.run(f"[ -x {quoted} ] && cat {prefix}/{STACK_MARK}").out.strip() == sha256


def _build_stack(shell: Shell, box: Box, stack: str, made: Environment, progress: Callable[[str], None]) -> None:
    folder = f"{box.folder}/{made.requirements.stem.replace('requirements', 'environment')}"
    shell.put(made.requirements, f"{folder}/requirements.txt")
    settings = {
        "stack": stack,
        "hash": made.sha256,
        "mark": STACK_MARK,
        "requirements": f"{folder}/requirements.txt",
        **made.settings,
    }
    detached.start(shell, folder, made.build, settings | download_places(box) | box_marks(box), again=(detached.ANY_RC,))
    last: deque[str] = deque(maxlen=LAST_LINES)
    with tempfile.TemporaryDirectory() as mirror:
        for line in shell.follow(
            f"{folder}/{LOG_FILE}",
            Path(mirror) / LOG_FILE,
            alive=lambda: detached.state(shell, folder).state in ("running", "unknown"),
        ):
            said = line.decode(errors="replace")
            progress(said)
            last.extend(filter(None, [said.strip()]))
    ended = detached.state(shell, folder)
    if ended.state == "unknown":
        raise ConnectionFailed(f"{box.host} did not say how the build of the environment ended.")
    if ended.rc != 0:
        raise ProvisionError(f"The environment could not be built on {box.host} ({ended.state}): {' / '.join(last)}")


def _link(shell: Shell, local: Path, remote: str) -> None:
    target, place = shlex.quote(str(local.resolve())), shlex.quote(remote)
    done = shell.run(f"mkdir -p {shlex.quote(str(PurePosixPath(remote).parent))} && ln -sfn {target} {place}")
    if done.rc != 0:
        raise TransferFailed(f"{local} could not be linked into the box: {done.err.strip()}")


def _no(_path: Path) -> bool:
    return False


def _ship_folder(shell: Shell, local: Path, remote: str, leave_out: LeaveOut) -> None:
    from provision.ssh.trees import walk

    large = {path for path in walk(local, leave_out) if path.is_file() and path.stat().st_size >= LARGE_BYTES}
    shell.put_tree(local, remote, leave_out=lambda path: path in large or leave_out(path))
    for path in sorted(large):
        shell.put(path, f"{remote}/{path.relative_to(local).as_posix()}")
