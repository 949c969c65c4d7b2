"""One module per cloud, imported when it is asked for: each cloud's SDK is an extra.

To add a cloud: one module with the names of `Cloud`, a row in `CLOUDS`, a double and an emulator in tests/doubles.
docs/clouds.md tells the rest.
"""

from __future__ import annotations

import datetime as dt
import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Protocol, cast

import msgspec

from provision.errors import BadInput, MissingPart
from provision.extras import install_command

if TYPE_CHECKING:  # every plan reads CLOUDS, and none of these is needed for it
    from provision.clouds.programs.order import Image, Order, PowerOff
    from provision.clouds.refusals import Refusal
    from provision.provisioner import Owned, Resource


class CloudRow(msgspec.Struct, frozen=True, kw_only=True):
    """What must be known of a cloud before its SDK is imported, or without it."""

    module: str
    status: str  # what it has met so far; shown to the user
    packages: tuple[str, ...]  # what the extra of the cloud's name brings beside Pulumi, by import names; the plugin's first
    credential_variables: tuple[str, ...]  # where credentials are looked for first
    credential_file: str | None  # below the home folder
    ends_itself: bool  # whether a machine surely ends its own bill at its deadline; else somebody must delete it
    run_for_real_on: dt.date | None = None  # None = never: said before the first dollar
    secret_variables: tuple[str, ...]  # never shown; of all that hold secrets only these reach its engine and its plugin


CLOUDS: Final[dict[str, CloudRow]] = {
    "aws": CloudRow(
        module="provision.clouds.programs.aws",
        status="real engine + emulator (moto)",
        packages=("pulumi_aws", "boto3"),
        credential_variables=("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"),
        credential_file=".aws/credentials",
        ends_itself=True,
        secret_variables=("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"),
    ),
    "hetzner": CloudRow(
        module="provision.clouds.programs.hetzner",
        status="real engine + fake cloud",
        packages=("pulumi_hcloud",),
        credential_variables=("HCLOUD_TOKEN",),
        credential_file=None,
        ends_itself=False,
        secret_variables=("HCLOUD_TOKEN",),
    ),
    "digitalocean": CloudRow(
        module="provision.clouds.programs.digitalocean",
        status="real engine + fake cloud",
        packages=("pulumi_digitalocean",),
        credential_variables=("DIGITALOCEAN_TOKEN", "DIGITALOCEAN_ACCESS_TOKEN"),
        credential_file=None,
        ends_itself=False,
        secret_variables=("DIGITALOCEAN_TOKEN", "DIGITALOCEAN_ACCESS_TOKEN"),
    ),
    "gcp": CloudRow(
        module="provision.clouds.programs.gcp",
        status="real engine + fake cloud",
        packages=("pulumi_gcp",),
        credential_variables=("GOOGLE_OAUTH_ACCESS_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CREDENTIALS"),
        credential_file=".config/gcloud/application_default_credentials.json",
        secret_variables=("GOOGLE_OAUTH_ACCESS_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CREDENTIALS"),
        ends_itself=True,  # by Compute Engine's own limit
    ),
    "runpod": CloudRow(
        module="provision.clouds.programs.runpod",
        status="real engine + fake cloud",
        packages=(),
        credential_variables=("RUNPOD_API_KEY",),
        credential_file=None,
        ends_itself=False,  # a pod asks for its own end; that its key may has not been seen for real
        secret_variables=("RUNPOD_API_KEY",),
    ),
}


class Cloud(Protocol):
    """What a module of this folder offers. Everything but `program` asks the cloud itself, never Pulumi's state."""

    PLUGIN: str | None  # the provider plugin's name; None: a dynamic provider, whose starter comes with the engine
    KINDS: dict[str, str]  # Pulumi's resource type -> Resource.kind, for everything that `program` creates
    ADDRESS: tuple[str, ...]  # the type, the path of the output with the public address; that of SSH's port where it is not 22
    IMAGE: Image
    REFUSALS: tuple[Refusal, ...]  # what its refusals mean; one that is in no row rules out its own offer alone
    POWER_OFF: PowerOff  # only where this ends the bill is the timer of the user data an end

    def plugin_version(self) -> str:
        """The plugin that belongs to the installed SDK; a stack needs exactly the one it was made with. Not asked of None."""
        ...

    def program(self, order: Order) -> Callable[[], None]:
        """The closure that Pulumi runs. Exports host, user and ids, for whoever looks with Pulumi's tools."""
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

    def caller_address(self) -> str | None:
        """The public address of the machine we run on, as a CIDR of one address; None where a cloud has no firewall.

        Raises ProvisionError.
        """
        ...


def load_cloud(name: str) -> Cloud:
    """The module of one cloud. Raises BadInput for an unknown name, MissingPart when its SDK is not installed."""
    if name not in CLOUDS:
        raise BadInput(f"There is no cloud {name!r}.", hint=f"Known: {', '.join(sorted(CLOUDS))}.")
    try:
        return cast("Cloud", importlib.import_module(CLOUDS[name].module))
    except ModuleNotFoundError as error:
        raise MissingPart(f"{name} needs the package {error.name}.", hint=install_command(name)) from None
