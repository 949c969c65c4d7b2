"""One module per cloud, imported when it is asked for: each cloud's SDK is an extra.

To add a cloud: one module with the names of `Cloud`, a row in `CLOUDS`, a double and an emulator in tests/doubles.
docs/add-a-cloud.md shows one from its first line to its test.
"""

from __future__ import annotations

import datetime as dt
import importlib
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, Protocol, cast

import msgspec

from provision.errors import BadInput, MissingPart
from provision.extras import install_command

if TYPE_CHECKING:  # every plan reads CLOUDS, and none of these is needed for it
    from catalogs.hardware import Offer
    from provision.clouds.programs.accounts.quotas import Quota
    from provision.clouds.programs.accounts.refusals import Refusal
    from provision.clouds.programs.order import Image, Order, PowerOff
    from provision.seam import Answer, Layer, Owned, Resource


class Met(StrEnum):
    """What renting at a cloud has been tried with, where it was never run for real."""

    EMULATOR = "real engine + emulator"
    DOUBLE = "double only"


class Ends(StrEnum):
    """Who ends a machine's bill at its deadline when nobody is there."""

    POWER_OFF = "it switches itself off, which ends the bill"
    LIMIT = "the cloud deletes it"
    REQUEST = "it asks the cloud for its own end; a process at home looks again"
    HOME = "a process at home deletes it"


# What becomes of a machine at its deadline while whoever rented it is off or without a line, as a sentence.
UNWATCHED: Final[dict[Ends, str]] = {
    Ends.POWER_OFF: "the box switches itself off, which ends the bill",
    Ends.LIMIT: "{name} itself deletes the box",
    Ends.REQUEST: (
        "the box asks {name} for its own end, which takes its network and its own key; where that fails, {name} bills it until "
        "this machine or `rentune down --orphans` deletes it"
    ),
    Ends.HOME: "the box switches itself off, and {name} bills it until this machine or `rentune down --orphans` deletes it",
}
SURE: Final = frozenset({Ends.POWER_OFF, Ends.LIMIT})  # with nobody's help from outside, and no credential
EARLY: Final = frozenset({Ends.POWER_OFF, Ends.REQUEST})  # a machine that nobody comes for can end its bill before the deadline


class Waits(msgspec.Struct, frozen=True, kw_only=True):
    """How long a new machine of a cloud is waited for before its offer is given up. "Running" is not "reachable"."""

    create_s: float  # until the engine says that it runs, with an address
    boot_s: float  # from then until it answers over SSH
    basis: str


class Volumes(msgspec.Struct, frozen=True, kw_only=True):
    """How a cloud's program keeps a disk beside the machine's own."""

    kinds: dict[str, str]  # Pulumi's resource type -> Resource.kind, of what its program makes for it, and the engine leaves
    device: str | None  # where the machine has it: paths, with *; None = the cloud mounts it
    never: Callable[[], tuple[tuple[str, str], ...]] = tuple  # patterns of machines' types and disks' kinds: never joined

    def joins(self, instance_type: str, sold_as: str | None) -> bool:
        """False where the cloud would refuse this kind of disk to this type of machine for sure."""
        return not any(fnmatchcase(instance_type, type) and fnmatchcase(sold_as or "", kind) for type, kind in self.never())


class CloudRow(msgspec.Struct, frozen=True, kw_only=True):
    """What must be known of a cloud before its SDK is imported, or without it."""

    title: str  # as its vendor writes it
    module: str
    met: Met
    run_for_real_on: dt.date | None = None  # None = never: said before the first dollar
    packages: tuple[str, ...]  # what the extra of the cloud's name brings beside Pulumi, by import names; the plugin's first
    credential_variables: tuple[str, ...]  # where credentials are looked for first
    credential_pairs: dict[str, str] = {}  # of those that open nothing alone: what belongs to them
    credential_paths: tuple[str, ...] = ()  # of those that name a file
    credential_file: str | None  # below the home folder
    account_is: str = "account"  # what its vendor calls that which is paid for, and lists what is there
    account_variables: tuple[str, ...]  # what chooses another one
    credentials_at: str  # where a person gets some
    secret_variables: tuple[str, ...]  # never shown; of all that hold secrets only these reach its engine and its plugin
    ends: Ends
    one_look: bool  # whether one list shows the whole account; else each region is asked
    limits: str  # which of an account's are asked before an order
    keeps_volumes: bool = False  # whether its program keeps a disk beside the machine's own
    firewall: bool = True  # whether anybody can be kept from SSH there
    asks_ram: bool = False  # whether its program makes sure of an order's RAM before anything is bought
    may_install_driver: bool = False  # whether a first boot there may have to put NVIDIA's driver in: its images state none
    spot: bool  # whether its program rents machines that may be taken away
    spot_until: str  # whether a date on the order itself ends such a machine; where none does, why
    waits: Waits

    @property
    def status(self) -> str:
        """What it has met so far, in the words that plan, run, doctor and docs/clouds.md show."""
        return str(self.met) if self.run_for_real_on is None else f"run for real on {self.run_for_real_on}"

    @property
    def ends_itself(self) -> bool:
        """Whether a machine surely ends its own bill at its deadline; else somebody must delete it."""
        return self.ends in SURE

    @property
    def ends_early(self) -> bool:
        """Whether a machine has an idle limit: its own end would end its bill before the deadline, too."""
        return self.ends in EARLY


# How long is waited is assumed in every row, as its basis tells: nothing of it was measured at a real cloud.
CLOUDS: Final[dict[str, CloudRow]] = {
    "aws": CloudRow(
        title="AWS EC2",
        module="provision.clouds.programs.aws",
        met=Met.EMULATOR,  # moto
        packages=("pulumi_aws", "boto3"),
        credential_variables=("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"),
        credential_pairs={"AWS_ACCESS_KEY_ID": "AWS_SECRET_ACCESS_KEY", "AWS_WEB_IDENTITY_TOKEN_FILE": "AWS_ROLE_ARN"},
        credential_paths=("AWS_WEB_IDENTITY_TOKEN_FILE",),
        credential_file=".aws/credentials",
        account_variables=("AWS_PROFILE", "AWS_ACCESS_KEY_ID"),
        credentials_at="IAM, Security credentials, in the console; then: aws configure",
        secret_variables=("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"),
        ends=Ends.POWER_OFF,
        one_look=False,
        limits="vCPUs of the type's family",
        keeps_volumes=True,
        spot=True,
        spot_until="none: EC2 takes one (`ValidUntil`) for persistent requests alone, and it ends a request, no machine "
        "([what a fleet would take](layers.md#why-aws-has-no-limit-of-its-own))",
        waits=Waits(
            create_s=600.0,
            boot_s=600.0,
            basis="assumed: SkyPilot gives up after 600 s (its issues 2689, 2965), and takes 137 s as a rule (PR 1111, 2022)",
        ),
    ),
    "hetzner": CloudRow(
        title="Hetzner Cloud",
        module="provision.clouds.programs.hetzner",
        met=Met.EMULATOR,
        packages=("pulumi_hcloud",),
        credential_variables=("HCLOUD_TOKEN",),
        credential_file=None,
        account_is="project",
        account_variables=("HCLOUD_TOKEN",),
        credentials_at="the project's Security, API tokens, in the console: read and write",
        secret_variables=("HCLOUD_TOKEN",),
        ends=Ends.HOME,
        one_look=True,
        limits="none: its API publishes none",
        keeps_volumes=True,
        asks_ram=True,
        spot=False,
        spot_until="no spot machines are rented",
        waits=Waits(
            create_s=300.0,
            boot_s=300.0,
            basis="assumed: a small machine without GPU, whose image has nothing to load",
        ),
    ),
    "digitalocean": CloudRow(
        title="DigitalOcean",
        module="provision.clouds.programs.digitalocean",
        met=Met.EMULATOR,
        packages=("pulumi_digitalocean",),
        credential_variables=("DIGITALOCEAN_TOKEN", "DIGITALOCEAN_ACCESS_TOKEN"),
        credential_file=None,
        account_is="team",
        account_variables=("DIGITALOCEAN_TOKEN",),
        credentials_at="API, Tokens, in the control panel, with custom scopes: rentune's documents list them for DigitalOcean",
        secret_variables=("DIGITALOCEAN_TOKEN", "DIGITALOCEAN_ACCESS_TOKEN"),
        ends=Ends.HOME,
        one_look=True,
        limits="droplets; of GPUs its API publishes none",
        keeps_volumes=True,
        asks_ram=True,
        may_install_driver=True,
        spot=False,
        spot_until="no spot machines are rented",
        waits=Waits(
            create_s=600.0,
            boot_s=600.0,
            basis="assumed: as AWS, for want of a figure",
        ),
    ),
    "gcp": CloudRow(
        title="Google Cloud",
        module="provision.clouds.programs.gcp",
        met=Met.EMULATOR,
        packages=("pulumi_gcp",),
        credential_variables=("GOOGLE_OAUTH_ACCESS_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CREDENTIALS"),
        credential_paths=("GOOGLE_APPLICATION_CREDENTIALS",),
        credential_file=".config/gcloud/application_default_credentials.json",
        account_is="project",
        account_variables=("GOOGLE_PROJECT",),
        credentials_at="gcloud auth application-default login; and the project in GOOGLE_PROJECT",
        secret_variables=("GOOGLE_OAUTH_ACCESS_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CREDENTIALS"),
        ends=Ends.LIMIT,  # Compute Engine's own
        one_look=True,
        limits="GPUs on demand, of the card and in all",
        keeps_volumes=True,
        spot=True,
        spot_until="the limit of every machine: a spot machine, too, is deleted at the deadline",
        waits=Waits(
            create_s=600.0,
            boot_s=600.0,
            basis="assumed: as AWS; SkyPilot takes 160 s as a rule (PR 1092, 2022)",
        ),
    ),
    "runpod": CloudRow(
        title="RunPod",
        module="provision.clouds.programs.runpod",
        met=Met.EMULATOR,
        packages=(),
        credential_variables=("RUNPOD_API_KEY",),
        credential_file=None,
        account_variables=("RUNPOD_API_KEY",),
        credentials_at="Settings, API Keys, in the console: pods and network volumes, read and write",
        secret_variables=("RUNPOD_API_KEY",),
        ends=Ends.REQUEST,  # that a pod's key may end its pod has not been seen for real
        one_look=True,
        limits="none: what its API calls its limit of dollars an hour was read nowhere",
        keeps_volumes=True,
        asks_ram=True,
        firewall=False,
        spot=False,
        spot_until="no spot machines are rented",
        waits=Waits(
            create_s=900.0,
            boot_s=180.0,
            basis="assumed: an address comes with the image, 16 GB in 169 s (alignment-hive, issue 98); then SSH is near",
        ),
    ),
}


class Cloud(Protocol):
    """What a module of this folder offers. Everything but `program` asks the cloud itself, never Pulumi's state."""

    PLUGIN: str | None  # the provider plugin's name; None: a dynamic provider, whose starter comes with the engine
    KINDS: dict[str, str]  # Pulumi's resource type -> Resource.kind, for everything that `program` creates
    VOLUMES: Volumes | None  # None: no disk outlives its machine there
    ADDRESS: tuple[str, ...]  # the type, the path of the output with the public address; that of SSH's port where it is not 22
    IMAGE: Image
    WITHOUT_DRIVER: Image | None  # rented where no other has a driver that fits: its first boot puts one in; None = no such
    REFUSALS: tuple[Refusal, ...]  # what its refusals mean; one that is in no row rules out its own offer alone
    GPU_QUOTAS: tuple[str, ...]  # the names of those that decide on GPUs, as `quotas` takes them; empty where none is told
    RUNS: dict[
        str, Answer
    ]  # what its lists call a machine's state -> whether it has power; a word that is not here tells nothing
    POWER_OFF: PowerOff  # only where this ends the bill is the timer of the user data an end

    def program(self, order: Order) -> Callable[[], None]:
        """The closure that Pulumi runs. Exports host, user and ids, for whoever looks with Pulumi's tools."""
        ...

    def image_of(self, instance_type: str, image: Image) -> Image:
        """The image for this type: `image`, or the one that brings its GPUs' driver."""
        ...

    def needs(self, offer: Offer) -> dict[str, float]:
        """How much a machine takes of which quota; empty where the cloud tells none that is known here."""
        ...

    def quotas(self, region: str, names: Iterable[str], environment: Mapping[str, str]) -> tuple[Quota, ...]:
        """These quotas of the account, in this order. Raises ProvisionError when the cloud can't be asked or declines."""
        ...

    def account(self, environment: Mapping[str, str]) -> str | None:
        """Whose account these credentials are of: the cloud's id of it, else a mark of the key (clouds/whose.py); no secret.

        Raises ProvisionError when the cloud can't be asked.
        """
        ...

    def regions(self, environment: Mapping[str, str]) -> tuple[str, ...]:
        """Every region that this account may use. Raises ProvisionError when the cloud can't be asked."""
        ...

    def owned(self, region: str, tag: str | None, environment: Mapping[str, str]) -> Owned:
        """What carries our tag there (or that of one run id) and is not gone yet; never raises."""
        ...

    def destroy_stray(self, resource: Resource, environment: Mapping[str, str]) -> None:
        """Ask the cloud to end one resource; one that is gone is fine. Raises ProvisionError when it declines."""
        ...

    def admit(self, region: str, run_id: str, cidrs: tuple[str, ...], environment: Mapping[str, str]) -> None:
        """Let exactly these networks reach the run's SSH. Raises ProvisionError when the cloud declines."""
        ...

    def console(self, instance: Resource, environment: Mapping[str, str]) -> str:
        """The boot log, or the empty string."""
        ...

    def guards(self, instance: Resource, environment: Mapping[str, str]) -> tuple[Layer, ...]:
        """What the cloud itself ends this instance by, as it has it now; nothing where it has no such thing.

        Raises ProvisionError when the cloud can't be asked.
        """
        ...

    def caller_address(self) -> str | None:
        """The public address of the machine we run on, as a CIDR of one address; None where a cloud has no firewall.

        Raises ProvisionError.
        """
        ...


def plugin_version(plugin: str) -> str:
    """That of the plugin which the installed SDK was made for; a stack needs exactly the one it was made with."""
    import json  # both only where a stack is made: every plan reads the table above
    from importlib import resources

    manifest = json.loads(resources.files(f"pulumi_{plugin}").joinpath("pulumi-plugin.json").read_text())
    return str(manifest["version"])


def load_cloud(name: str) -> Cloud:
    """The module of one cloud. Raises BadInput for an unknown name, MissingPart when its SDK is not installed."""
    if name not in CLOUDS:
        raise BadInput(f"There is no cloud {name!r}.", hint=f"Known: {', '.join(sorted(CLOUDS))}.")
    try:
        return cast("Cloud", importlib.import_module(CLOUDS[name].module))
    except ModuleNotFoundError as error:
        raise MissingPart(f"{name} needs the package {error.name}.", hint=install_command(name)) from None
