"""One run's stack in the Pulumi engine: the caller of pulumi.automation, whose command `runner` is.

State is a note, never the truth. The engine writes "creating" before it calls the provider and the id afterwards, so a
kill in between leaves a box without an id; `destroy` of such a stack exits 0, and so does one that was cancelled half
way. Therefore every operation is followed by an export, and the caller asks the cloud by tag as well.

**One process per stack**: Python's Pulumi runtime is global to the process, and inline programs that run side by side
mix. The run's lock sees to it that one process controls a run; a second run is a second process.

All of a run's engine files lie in one folder (0700): `home` (PULUMI_HOME), `state` (the backend), `work` (project and
stack settings), `log` (what the engine printed), `passphrase`, `hosts.json`. Only the provider plugins are shared.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil
from pulumi import automation as auto
from pulumi.automation import errors as automation_errors

from provision.clouds.engine.left import HOME_MARK, end_left
from provision.clouds.engine.runner import EngineCommand, living_engines, outwait
from provision.clouds.patience import OPERATION_S as OPERATION_S
from provision.errors import Declined, ProvisionError, Reason, RentuneError, Scope
from provision.home.processes import boot_id, living
from provision.home.whole import write_whole
from provision.redact import redact, secrets_of

PROJECT: Final = "rentune"
HOSTS: Final = "hosts.json"  # in the folder: names that machines had as their engines began
OF_THE_ENGINE: Final = "pulumi:"  # what its own resources' types begin with: stack and providers
COLOUR: Final = re.compile(r"<\{%.*?%\}>")
TRACEBACK: Final = "Traceback (most recent call last)"
NOISE: Final = frozenset({"update failed", "Resource monitor has terminated, shutting down"})  # said after a reason
OWN_ERROR: Final = re.compile(r"^provision\.\S+: (.*)", re.MULTILINE)  # how a dynamic provider's ends: type and words

# What the engine prints on stderr or in a diagnostic -> what we say. The first that matches wins.
KNOWN: Final[tuple[tuple[str, str, str | None], ...]] = (
    ("currently locked by", "another process is working on this run", "rentune ls"),
    ("Another update is currently in progress", "another process is working on this run", "rentune ls"),
    ("passphrase", "the passphrase of this run's state is lost", "rentune down RUN finds the box by its tag"),
    ("no space left on device", "the disk that the run's state lies on is full", "Free space there."),
    ("disk quota exceeded", "the disk that the run's state lies on takes no more", "Free space there, or raise the quota."),
    ("no resource plugin", "the cloud's plugin of the right version is not installed", "rentune doctor --install"),
)


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """One resource as the state has it; a pending create has no id yet."""

    type: str
    urn: str
    id: str = ""
    outputs: dict[str, Any] = {}


class Foreseen(msgspec.Struct, frozen=True, kw_only=True):
    """One resource that `up` would create: its type, its name in the program, and its inputs, where secrets are hidden."""

    type: str
    name: str
    inputs: dict[str, Any] = {}


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What an export shows, but for the stack and the providers themselves."""

    resources: tuple[Recorded, ...] = ()
    pending: tuple[Recorded, ...] = ()

    @property
    def empty(self) -> bool:
        return not self.resources and not self.pending


class Stack:
    """Guards the engine's folder of one run. Every method raises ProvisionError, and no foreign exception."""

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        binary: Path,
        plugins: Path,
        environment: Mapping[str, str],
        operation_s: float = OPERATION_S,
    ) -> None:
        self.folder = folder
        self.name = name
        self._prepare_folder(plugins)
        self._hidden = (*secrets_of(environment), self._passphrase.read_text())
        self._settings = engine_environment(folder)
        self._command = EngineCommand(binary, environment=environment, folder=folder / "log", deadline_s=operation_s)

    @property
    def _passphrase(self) -> Path:
        return self.folder / "passphrase"

    def _prepare_folder(self, plugins: Path) -> None:
        for part in ("home", "state", "work", "log"):
            (self.folder / part).mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self._passphrase.exists():
            write_whole(self._passphrase, secrets.token_urlsafe(32).encode())
        note_host(self.folder)
        if not (link := self.folder / "home" / "plugins").is_symlink():
            plugins.mkdir(parents=True, exist_ok=True)
            link.symlink_to(plugins)

    def up(self, program: Callable[[], None]) -> None:
        """Run the program; what it made is in `state`."""
        with self._mapped("creating the box") as reasons:
            self._opened.up(program=program, on_event=reasons.hear, color="never", show_secrets=False, suppress_outputs=True)

    def preview(self, program: Callable[[], None]) -> tuple[Foreseen, ...]:
        """What `up` would create. The program asks the cloud what it must know; nothing is made."""
        foreseen: list[Foreseen] = []

        def hear(event: Any) -> None:
            reasons.hear(event)
            if (step := event.resource_pre_event) is not None and step.metadata.op is auto.OpType.CREATE:
                foreseen.append(_foreseen(step.metadata))

        with self._mapped("previewing the box") as reasons:
            self._opened.preview(program=program, on_event=hear, color="never", suppress_outputs=True)
        return tuple(each for each in foreseen if not each.type.startswith(OF_THE_ENGINE))

    def refresh(self) -> None:
        """Read every resource of the state back from the cloud."""
        with self._mapped("reading back from the cloud") as reasons:
            self._opened.refresh(on_event=reasons.hear, color="never", show_secrets=False)

    def destroy(self) -> None:
        """End what the state knows; needs the cloud's plugin but not the program. Success says little: see `state`."""
        with self._mapped("destroying the box") as reasons:
            self._opened.destroy(on_event=reasons.hear, color="never", show_secrets=False)

    def state(self) -> State:
        """An export without the values of secrets."""
        return _read_state(self._export())

    def adopt(self, ids: Mapping[str, str]) -> None:
        """Turn pending creates into resources, given the id that the cloud has for each type; forget none.

        `refresh` with its clearing of pending creates would forget a box that may exist; so would the CLI's import of
        them. Moving the entry over by hand, then refresh, then destroy, ends the box (tried on the engine 3.274.1).
        """
        exported = self._export()
        deployment = exported["deployment"]
        pending = deployment.get("pending_operations") or []
        known = [entry for entry in pending if entry["type"] == "creating" and entry["resource"]["type"] in ids]
        if not known:
            return
        for entry in known:
            resource = entry["resource"]
            inputs = resource.get("inputs", {})
            deployment["resources"].append(resource | {"id": ids[resource["type"]], "outputs": dict(inputs)})
        deployment["pending_operations"] = [entry for entry in pending if entry not in known]
        self._import(exported)

    def recover(self) -> None:
        """After a controller died: let its engine end, drop the lock of one that is proven dead, and end what that has left.

        A controller that was killed right after it started an engine noted no pid; the engine's own lock names it.
        """
        for engine in living_engines(self.folder / "log"):
            outwait(engine)
        for lock in (self.folder / "state" / ".pulumi" / "locks").rglob("*.json"):
            if (owner := _owner_here(lock, read_hosts(self.folder))) is None:
                continue
            if (engine := _engine(owner, self.folder / "home")) is not None:
                outwait(engine)
            lock.unlink(missing_ok=True)
        end_left(self.folder / "home")

    @cached_property
    def _opened(self) -> Any:
        workspace = auto.LocalWorkspace(
            work_dir=str(self.folder / "work"),
            pulumi_home=str(self.folder / "home"),
            env_vars=self._settings,
            project_settings=auto.ProjectSettings(name=PROJECT, runtime="python"),
            pulumi_command=self._command,
        )
        return auto.Stack.create_or_select(self.name, workspace)

    def _export(self) -> dict[str, Any]:
        with self._mapped("reading the stack's state"):
            self._opened  # noqa: B018 - an export needs a stack
            exported: dict[str, Any] = json.loads(self._run("stack", "export", "--stack", self.name))
        return exported

    def _import(self, exported: dict[str, Any]) -> None:
        file = self.folder / "import.json"
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
            json.dump(exported, opened)
        try:
            with self._mapped("repairing the stack's state"):
                self._run("stack", "import", "--file", str(file), "--stack", self.name)
        finally:
            file.unlink()

    def _run(self, *args: str) -> str:
        return str(self._command.run(list(args), str(self.folder / "work"), self._settings).stdout)

    @contextmanager
    def _mapped(self, action: str) -> Iterator[_Reasons]:
        """What an engine that died has left behind is ended before anybody looks what there is."""
        reasons = _Reasons()
        try:
            yield reasons
        except RentuneError:
            end_left(self.folder / "home")
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it means "unknown", never "nothing happened"
            end_left(self.folder / "home")
            raise _as_ours(action, error, reasons.said, self._hidden) from None


def engine_environment(folder: Path) -> dict[str, str]:
    """The variables of every call, beside the caller's own. PULUMI_SKIP_CHECKPOINTS and …_DEBUG_GRPC stay unset."""
    return {
        "PULUMI_HOME": str(folder / "home"),
        "PULUMI_BACKEND_URL": (folder / "state").absolute().as_uri(),
        "PULUMI_CONFIG_PASSPHRASE_FILE": str(folder / "passphrase"),
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",  # a missing plugin is an error, not a silent download
        "PULUMI_PYTHON_CMD": sys.executable,  # a dynamic provider's Python: it must find what this one finds
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }


def remove_engine_files(folder: Path) -> None:
    """What may go once nothing of the run is left: state, passphrase and logs. What else lies in the folder stays."""
    for part in ("home", "state", "work", "log"):
        shutil.rmtree(folder / part, ignore_errors=True)
    for file in ("passphrase", HOSTS):
        with suppress(OSError):  # what can't be removed costs nothing; the box is gone
            (folder / file).unlink()


class _Reasons:
    """The error texts among the engine's events. The whole output may hold secrets, so nothing else is ever shown."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def hear(self, event: Any) -> None:
        """Called in a thread of the SDK's."""
        diagnostic = event.diagnostic_event
        if diagnostic is not None and diagnostic.severity == "error":
            self.said.append(_sentence(diagnostic.message))


def _sentence(message: str) -> str:
    """A diagnostic on one line, without colours, the SDK's preambles and tracebacks; of ours the last words are kept."""
    text, _, traceback = COLOUR.sub("", message).partition(TRACEBACK)
    if own := OWN_ERROR.findall(traceback):
        return str(own[-1])
    for preamble in ("an unhandled error occurred:", "python inline source runtime error:"):
        text = text.replace(preamble, "")
    return " ".join(text.split())


def _as_ours(action: str, error: Exception, said: list[str], hidden: tuple[str, ...]) -> ProvisionError:
    """Declined where the engine failed at the cloud, as far as can be told; else what failed is at home, or in this program."""
    whole = " ".join([str(error), *said])
    for needle, sentence, hint in KNOWN:
        if needle in whole:
            return ProvisionError(f"{action.capitalize()} failed: {sentence}.", hint=hint)
    said = [text.removesuffix(".") for text in dict.fromkeys(said) if text not in NOISE]
    reason = "; ".join(said) or "the engine gave no reason"
    sentence = f"{action.capitalize()} failed: {redact(reason, hidden)}"
    if not isinstance(error, automation_errors.CommandError):
        return ProvisionError(f"{sentence} ({type(error).__name__}).")
    return Declined(sentence, reason=Reason.UNKNOWN, scope=Scope.OFFER)


def _read_state(exported: dict[str, Any]) -> State:
    deployment = exported["deployment"]
    pending = [entry["resource"] for entry in deployment.get("pending_operations") or []]
    return State(
        resources=tuple(map(_recorded, filter(_is_ours, deployment.get("resources") or []))),
        pending=tuple(map(_recorded, pending)),
    )


def _is_ours(resource: dict[str, Any]) -> bool:
    return not resource["type"].startswith(OF_THE_ENGINE)


def _foreseen(step: Any) -> Foreseen:
    return Foreseen(type=step.type, name=step.urn.rpartition("::")[2], inputs=dict(step.new.inputs or {}))


def _recorded(resource: dict[str, Any]) -> Recorded:
    id, outputs = resource.get("id", ""), resource.get("outputs", {})
    return Recorded(type=resource["type"], urn=resource["urn"], id=id, outputs=outputs)


def note_host(folder: Path) -> None:
    """What this machine is called in this boot, before an engine of it writes that into a lock: it may be called otherwise
    when somebody reads it.
    """
    hosts, name = read_hosts(folder), socket.gethostname()
    if hosts.get(name) != boot_id():
        write_whole(folder / HOSTS, msgspec.json.encode(hosts | {name: boot_id()}))


def read_hosts(folder: Path) -> dict[str, str]:
    """Which boot of which machine had a name when an engine of the run was started. Damaged, it says of none."""
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode((folder / HOSTS).read_bytes(), type=dict[str, str])
    return {}


def _owner_here(lock: Path, hosts: Mapping[str, str]) -> int | None:
    """Pid of who holds a lock of the engine's; None where another machine does, or it is freed or written this moment.

    Whoever holds it has written the name that its machine had. This one may have another by now: its boot tells.
    """
    try:
        owner = json.loads(lock.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    is_here = owner["hostname"] == socket.gethostname() or hosts.get(owner["hostname"]) == boot_id()
    return int(owner["pid"]) if is_here else None


def _engine(pid: int, home: Path) -> psutil.Process | None:
    """The engine with this pid, while it runs. What does not carry the stack's home in its environment only has the pid."""
    try:
        process = living(pid)
        return process if process and process.environ().get(HOME_MARK) == str(home) else None
    except psutil.Error:  # gone in between, or another user's: none of ours
        return None
