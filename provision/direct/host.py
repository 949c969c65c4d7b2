"""A host that the user already has: reached, used below one folder, cleaned; never powered off, never destroyed."""

from __future__ import annotations

import datetime as dt
import math
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from catalogs.catalog import read_catalog
from catalogs.hardware import Offer
from catalogs.user_file import expanded
from planner.asking.request import HOST
from provision.aboard import detached
from provision.aboard.layers import read_layers
from provision.aboard.layers import unseen as unseen_on_box
from provision.aboard.marks import marks
from provision.direct import host_scripts as scripts
from provision.direct.address import address_of
from provision.direct.verdict import unseen, verdict
from provision.errors import ControlLost, ProvisionError, Refused, RentuneError, WrongHostKey
from provision.home.places import RunFolder
from provision.seam import Answer, Box, Claim, Ends, InCharge, Launch, Layer, Owned, Resource, Teardown, unshared
from provision.words import bytes_words

if TYPE_CHECKING:
    from provision.ssh import Completed, Shell

IDENTITY_FILES = ("id_ed25519", "id_ecdsa", "id_rsa")  # as OpenSSH looks for them, hardware keys apart
CLEAN_S = 120.0  # assumed: removing gigabytes from a slow disk
READMITTED_S: Final = 3600  # assumed: 1 GB of adapter at 0.3 MB/s; refused again, it is admitted again
SCRIPTS_OF_A_TEARDOWN = 3  # derived: it lists, cleans and lists again


@dataclass(frozen=True)
class OwnSsh:
    """What the user logs in with. What is left out is as OpenSSH has it: the usual files in ~/.ssh."""

    config: Path | None = None
    known_hosts: tuple[Path, ...] = ()
    identities: tuple[Path, ...] = ()
    agent: bool = True


USUAL: Final = OwnSsh()


class ExistingHost:
    """Provisioner "host" for `user@address[:port]`.

    The host key must be known: from the user's `known_hosts`, or pinned by `host_key` ("ssh-ed25519 AAAA…" or "SHA256:…"), or
    confirmed by `confirm(fingerprint)`. `up` logs in once as the user (their identities, their agent) to admit the run's
    own key until the deadline; the run uses that key. Ending and listing log in as the user again, so neither depends on
    what the run has kept; and past the deadline `readmit` does, for what the run may have left there.
    """

    name = HOST
    list_lag_s = 1.0  # assumed: a process that has just been started or ended
    look = ""

    def __init__(
        self,
        user_at_host: str,
        *,
        own: OwnSsh = USUAL,
        host_key: str | None = None,
        confirm: Callable[[str], bool] | None = None,
        patience_s: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises BadInput as `address_of` does."""
        self.address = address_of(user_at_host, config=own.config)
        self._user, self._host, self._port = self.address.user, self.address.host, self.address.port
        ssh_folder = expanded("~/.ssh")
        self._known_hosts = own.known_hosts or (ssh_folder / "known_hosts", Path("/etc/ssh/ssh_known_hosts"))
        self._identities = own.identities or self.address.identities or tuple(ssh_folder / name for name in IDENTITY_FILES)
        self._agent = own.agent
        self._pinned = host_key
        self._confirm = confirm
        self._patience_s = patience_s
        self.worst_teardown_s = patience_s + SCRIPTS_OF_A_TEARDOWN * CLEAN_S
        self._clock = clock

    def fetch_offer(self, *, usd_per_hour: Decimal = Decimal(0)) -> Offer:
        """The host as an offer: cores, RAM and GPUs as it reports them; of unlike cards the first, and those like it.

        Raises Refused for a GPU that no table knows, and where its driver does not say what is there.
        """
        with self._login() as shell:
            facts = dict(line.split("=", 1) for line in _said(shell, scripts.FACTS).splitlines() if "=" in line)
        if "unread" in facts:
            check = f"{self.address.command} nvidia-smi"
            raise Refused(f"The driver of {self._host} does not say which GPUs it has: {facts['unread']}", hint=check)
        gpus = [each for each in facts["gpus"].split(";") if each]
        num_like = gpus.count(gpus[0]) if gpus else 0
        return Offer(
            provider=self.name,
            region=self._host,
            instance_type=self.address.label,
            purchase="on_demand",
            gpu=self._known_gpu(gpus[0]) if gpus else None,
            num_gpus=Decimal(num_like),
            vcpus=float(facts["vcpus"]),
            ram_gib=round(int(facts["ram_kib"]) / 2**20, 1),
            local_disk_gib=round(int(facts["disk_kib"]) / 2**20, 1),
            usd_per_hour=usd_per_hour,
            observed_on=dt.datetime.fromtimestamp(self._clock(), tz=dt.UTC).date(),
            source="read from the host",
            confidence="high",
        )

    def up(self, offer: Offer, launch: Launch) -> Box:  # noqa: ARG002 (the host is what it is)
        """Make our folder, admit the run's key, arm the deadline. Raises ProvisionError; nothing is left then."""
        with self._login() as shell:
            folder = _said(shell, scripts.MAKE_FOLDER, run=launch.run_id)
            try:
                _admit(shell, scripts.ADMIT, launch.run_id, launch.public_key, left_s=self._left_s(launch.deadline_at_s))
                self._arm(shell, folder, launch.run_id, launch.ends)
            except BaseException:
                _script(shell, scripts.CLEAN, run=launch.run_id)
                raise
            return Box(
                run_id=launch.run_id,
                provider=self.name,
                host=self._host,
                port=self._port,
                user=self._user,
                host_key=shell.box.host_key,
                folder=folder,
                stacks=str(Path(folder).parents[1] / scripts.STACKS) if launch.keep_environment else None,
                ours=False,
                resources=(Resource(kind="folder", id=folder, region=self._host, run_id=launch.run_id, bills=False),),
            )

    def destroy(self, claim: Claim, in_charge: InCharge = unshared) -> Teardown:
        """Clean the host of this run: processes, folder with caches and checkpoints, admitted key."""
        try:
            with self._login() as shell:
                before = _resources(_said(shell, scripts.LIST), self._host, claim.run_id)
                in_charge()
                _script(shell, scripts.CLEAN, run=claim.run_id)
                left = _resources(_said(shell, scripts.LIST), self._host, claim.run_id)
                waiting = self._waiting_words(_said(shell, scripts.WAITING))
        except ControlLost:
            raise
        except RentuneError as error:
            return unseen(claim.run_id, str(error), at_s=self._clock())
        message = f"Nothing of the run is left on {self._host}; the host itself was not touched.{waiting}"
        return verdict(claim.run_id, before, left, clean="cleaned", message=message, at_s=self._clock())

    def _waiting_words(self, said: str) -> str:
        """What waits there for the next run, if anything does: "KiB folder" as the script WAITING prints it."""
        if not said:
            return ""
        kib, folder = said.split(" ", 1)
        end = f"{self.address.command} rm -r {shlex.quote(folder)}"
        return f" The trainer's packages, {bytes_words(int(kib) * 1024)}, wait in {folder} for the next run: `{end}` ends that."

    def owned(self, claim: Claim | None = None) -> Owned:
        """Folders, processes and admitted keys of ours on the host; unknown when it can't be reached."""
        try:
            with self._login() as shell:
                run_id = None if claim is None else claim.run_id
                return Owned(resources=_resources(_said(shell, scripts.LIST), self._host, run_id), complete=Answer.YES)
        except RentuneError as error:
            return Owned(resources=(), complete=Answer.UNKNOWN, message=str(error))

    def console(self, claim: Claim) -> str:  # noqa: ARG002 (a host that exists has booted long ago)
        """Always empty: there is no boot of ours to show."""
        return ""

    def account(self) -> None:
        """None: nobody is paid."""

    def readmit(self, claim: Claim) -> None:
        """Admit the run's own key once more, as the user, for as long as a result may take to come home.

        Raises RentuneError where the user can't log in, and where nothing of the run is there.
        """
        from provision.ssh.keys import client_key

        key = client_key(RunFolder(claim.folder).keys, run_id=claim.run_id).public
        with self._login() as shell:
            _admit(shell, scripts.READMIT, claim.run_id, key, left_s=READMITTED_S)

    def rearm(self, claim: Claim, ends: Ends) -> None:
        """The watchdog again, unless it runs: no reboot starts it, nor whoever killed it."""
        with self._login() as shell:
            self._arm(shell, _said(shell, scripts.FOLDER, run=claim.run_id), claim.run_id, ends)

    def layers(self, claim: Claim) -> tuple[Layer, ...]:
        """The watchdog, asked as the user: the run's own key need not be here."""
        try:
            with self._login() as shell:
                return read_layers(shell, f"run={shlex.quote(claim.run_id)}\n{scripts.LOOK}", now_s=self._clock())
        except RentuneError as error:
            return (unseen_on_box(str(error)),)

    def _arm(self, shell: Shell, folder: str, run_id: str, ends: Ends) -> None:
        """A watchdog on the host that ends our processes, and nothing else, when the time is up. Nothing where one runs."""
        lease_s = "" if ends.lease_s is None else str(math.ceil(ends.lease_s))
        told = {"left": str(max(0, self._left_s(ends.deadline_at_s))), "lease_s": lease_s}
        detached.start(shell, f"{folder}/deadline", scripts.WATCH, marks(Path(folder).parent, run_id) | told)

    def _left_s(self, deadline_at_s: float) -> int:
        """Until the deadline: a span, since their clock may be wrong."""
        return round(deadline_at_s - self._clock())

    @contextmanager
    def _login(self) -> Iterator[Shell]:
        """As the user, with their own keys, against a host key that they know."""
        from provision.ssh import Identity, Shell, Waits

        box = Box(
            run_id="",
            provider=self.name,
            host=self._host,
            port=self._port,
            user=self._user,
            host_key=self._known_key(),
            folder="",
            ours=False,
        )
        identity = Identity(keys=self._identities, agent=self._agent)
        with Shell.connect(box, key=identity, deadline_s=self._patience_s, waits=Waits(patience_s=self._patience_s)) as shell:
            yield shell

    def vouched_key(self) -> str | None:
        """The host key that was pinned, else the one that this machine's files have for the address; None where none is known.

        Nobody is asked.
        """
        if self._pinned is not None:
            return self._pinned
        from provision.ssh import read_known_keys

        known = (key for file in self._known_hosts for key in read_known_keys(file, self._host, self._port))
        return next(known, None)

    def _known_key(self) -> str:
        """The host key to expect. Raises Refused when nobody vouches for the one that is shown."""
        from provision.ssh import fetch_host_key, fingerprint

        vouched = self.vouched_key()
        if vouched is not None and not vouched.startswith("SHA256:"):
            return vouched
        shown = fetch_host_key(self._host, self._port, timeout_s=self._patience_s)
        found = fingerprint(shown)
        if self._pinned and found != self._pinned:
            raise WrongHostKey(f"{self._host} shows the host key {found}, not {self._pinned}; nothing was sent.")
        if self._pinned or (self._confirm and self._confirm(found)):
            self._pinned = shown
            return shown
        raise Refused(
            f"Nobody vouches for the host key of {self._host}: it shows {found}.",
            hint=f"If that is right: `{self.address.command}` once writes it down, or `rentune run` and `check` take "
            f"--host-key {found}",
        )

    def _known_gpu(self, reported: str) -> str:
        name, _, said = reported.partition(",")
        try:
            memory_mib = float(said)
        except ValueError:
            raise Refused(f"{self._host} does not say how much memory its {name} has: {said.strip() or 'nothing'}.") from None
        if (known := read_catalog().gpu_of_driver(name, memory_mib)) is not None:
            return known
        raise Refused(f"{self._host} has a GPU that no table knows: {name}.", hint="rentune catalog list --json")


def _script(shell: Shell, script: str, **variables: str) -> Completed:
    return shell.script(script, variables, timeout_s=CLEAN_S)


def _admit(shell: Shell, script: str, run_id: str, public_key: str, *, left_s: int) -> None:
    _said(shell, script, run=run_id, key=" ".join(public_key.split()[:2]), left=str(left_s))


def _said(shell: Shell, script: str, **variables: str) -> str:
    done = _script(shell, script, **variables)
    if done.rc != 0:
        raise ProvisionError(f"{shell.box.host} refused: {done.err.strip() or f'a script ended with {done.rc}'}")
    return done.out.strip()


def _resources(listed: str, region: str, tag: str | None) -> tuple[Resource, ...]:
    """Lines "kind run_id id" as the script LIST prints them."""
    rows = [line.split(" ", 2) for line in listed.splitlines()]
    return tuple(
        Resource(kind=kind, id=each, region=region, run_id=run_id, bills=False)
        for kind, run_id, each in rows
        if tag in (None, run_id)
    )
