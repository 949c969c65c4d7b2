"""Where things lie at home: the state folder, a run's directory, the caches. Nothing is created here."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from catalogs.user_file import expanded, shortened
from provision import __version__
from provision.errors import BadInput

HOME_VARIABLE: Final = "RENTUNE_HOME"
CACHE_VARIABLE: Final = "RENTUNE_CACHE"
ORGANISATION: Final = Path("/etc/rentune")  # no variable moves it
POLICY: Final = "policy.toml"
RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
SYSTEM_FOLDERS: Final = ("/usr/sbin", "/usr/local/sbin", "/sbin", "/usr/bin")  # of servers; not on everybody's PATH


class Places(msgspec.Struct, frozen=True):
    """Roots on this machine. `RENTUNE_HOME` and `RENTUNE_CACHE` override the XDG folders."""

    home: Path
    cache: Path
    config: Path | None = None  # the user's; None = the state folder
    organisation: Path = ORGANISATION

    @property
    def user_policy(self) -> Path:
        return (self.config or self.home) / POLICY

    @property
    def organisation_policy(self) -> Path:
        return self.organisation / POLICY

    @property
    def catalog(self) -> Path:
        return self.cache / f"catalog-{__version__}"  # as it was parsed last; another version beside this one has its own

    @property
    def own_offers(self) -> Path:
        return (self.config or self.home) / "offers.csv"  # the user's, beside those of the catalog

    @property
    def prices(self) -> Path:
        return self.home / "prices"  # what `catalog refresh` fetched, a file a provider

    @property
    def quotas(self) -> Path:
        return self.home / "quotas.json"  # offers that an account's limits did not admit when its cloud was asked last

    @property
    def ledger(self) -> Path:
        return self.home / "ledger.jsonl"

    @property
    def calibration(self) -> Path:
        return self.home / "calibration.jsonl"  # predicted and measured, one row a figure, of every finished run

    def run(self, run_id: str) -> RunFolder:
        """The run's directory. Raises BadInput for what is no id: it may come from a cloud's tag, which anybody can write."""
        if not is_run_id(run_id):
            raise BadInput(f"{shortened(run_id)!r} is no id of a run.", hint="rentune ls")
        return RunFolder(self.home / "runs" / run_id)


class RunFolder(msgspec.Struct, frozen=True):
    """One run's directory: everything a person may want after the box is gone."""

    root: Path

    @property
    def plan(self) -> Path:
        return self.root / "plan.json"

    @property
    def alternatives(self) -> Path:
        return self.root / "alternatives.json"  # the plans that may take its place

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"  # of a spot machine, brought home while it trains

    @property
    def tries(self) -> Path:
        return self.root / "tries"  # what the trainers of earlier attempts said, a folder each

    @property
    def launch(self) -> Path:
        return self.root / "launch.json"  # what the provisioner is told to rent the box

    @property
    def base(self) -> Path:
        return self.root / "base.json"  # where the base model comes from

    @property
    def job(self) -> Path:
        return self.root / "job.json"

    @property
    def go_on(self) -> Path:
        return self.root / "go-on.yaml"  # a job file: the run's job anew, from the checkpoint that came home without a result

    @property
    def events(self) -> Path:
        return self.root / "events.jsonl"  # byte for byte as on the box, so its size is the offset to go on from

    @property
    def environment_log(self) -> Path:
        return self.root / "environment.log"  # what building the trainer's environment said

    @property
    def alerts(self) -> Path:
        return self.root / "alerts.json"  # 0600: whom the run tells

    @property
    def renewed(self) -> Path:
        return self.root / "renewed"  # empty; written anew whenever the box's lease was renewed from here

    @property
    def shares(self) -> Path:
        return self.root / "shares.json"  # of the budget, which of them were told

    @property
    def log(self) -> Path:
        return self.root / "log"

    @property
    def console(self) -> Path:
        return self.root / "console.log"  # a machine's own boot log, of one that never answered

    @property
    def controller_log(self) -> Path:
        return self.root / "controller.log"

    @property
    def outcome(self) -> Path:
        return self.root / "outcome.json"

    @property
    def adapter(self) -> Path:
        return self.root / "adapter"

    @property
    def receipt(self) -> Path:
        return self.root / "receipt.json"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def keys(self) -> Path:
        return self.root / "keys"  # 0700; client key and known_hosts; removed after a clean teardown

    @property
    def engine(self) -> Path:
        return self.root / "engine"  # Pulumi's home, state and passphrase of this run

    @property
    def state(self) -> Path:
        return self.root / "state.json"  # 0600: where in object storage its state lies, and the key to its papers

    @property
    def sentinel(self) -> Path:
        return self.root / "sentinel"  # held by the process that ends the run where its box can't

    @property
    def lock(self) -> Path:
        return self.root / "lock"  # held by the process that controls the run

    @property
    def ungranted(self) -> Path:
        return self.root / "ungranted"  # the trainer of the last attempt was given no place in object storage to push to

    @property
    def wish(self) -> Path:
        return self.root / "to-end"  # who has said that the run is to end: nothing more is ordered for it


# What an sshd_config can't quote, what ends a pattern of grep, and bytes that are no text: in a path of ours none may stand.
UNFIT: Final = re.compile(r'["\\\x00-\x1f\x7f\ud800-\udfff]')


def is_run_id(text: str | None) -> bool:
    """Whether a run can be called so."""
    return text is not None and RUN_ID.fullmatch(text) is not None


def require_folder(folder: Path, *, variable: str) -> None:
    """Raises BadInput where no folder of ours can be. `variable` names another one."""
    if (why := obstacle(folder)) is not None:
        raise BadInput(f"{shortened(str(folder))} {why}.", hint=f"{variable}=FOLDER rentune …")


def obstacle(folder: Path) -> str | None:
    """Why no folder of ours can be there, to be said after its name; None where one is, or nothing stands in its place."""
    if unfit := UNFIT.search(os.path.realpath(folder)):
        return f"can't be used: {unfit[0]!r} in its path would be read as something else where other programs are told of it"
    nearest = nearest_there(folder)
    if nearest.is_dir():
        return None
    return "is not a folder" if nearest == folder else f"can't be made: {nearest} is not a folder"


def nearest_there(path: Path) -> Path:
    """The path itself, or the nearest above it that is there; a link that leads nowhere is."""
    return path if os.path.lexists(path) or path == path.parent else nearest_there(path.parent)


def read_places(environment: Mapping[str, str] = os.environ) -> Places:
    """`RENTUNE_HOME`, else `$XDG_STATE_HOME/rentune` and, for what the user sets, `$XDG_CONFIG_HOME/rentune`;
    `RENTUNE_CACHE`, else `$XDG_CACHE_HOME/rentune`. Raises BadInput where neither they nor a home folder are there.
    """

    def below(variable: str, usual: str) -> Path:
        return Path(environment.get(variable) or _users_folder(environment) / usual) / "rentune"

    moved = environment.get(HOME_VARIABLE)
    return Places(  # absolute: other programs are told of these, and start elsewhere
        home=Path(moved or below("XDG_STATE_HOME", ".local/state")).absolute(),
        cache=Path(environment.get(CACHE_VARIABLE) or below("XDG_CACHE_HOME", ".cache")).absolute(),
        config=None if moved else below("XDG_CONFIG_HOME", ".config").absolute(),
    )


def _users_folder(environment: Mapping[str, str]) -> Path:
    """Raises BadInput where the user has none, as in a container that was started as a user which its image lacks."""
    folder = expanded(environment.get("HOME", "~"))
    if folder == Path("~"):
        raise BadInput(
            "You have no home folder here: HOME is not set, and this system does not know you.", hint="HOME=FOLDER rentune …"
        )
    return folder
