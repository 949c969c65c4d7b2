"""Which double and which emulator stand in for which cloud, and what a test rents there."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from catalogs.hardware import Offer
from provision.clouds.programs.order import Image
from tests.doubles.plugins import aws, digitalocean, gcp, hcloud
from tests.doubles.plugins.plugin import Double
from tests.doubles.world.core import TOKEN
from tests.doubles.world.gcp import PROJECT

MOTOS_IMAGE: Final = Image(owner="898082745236", name="Ubuntu CUDA9 DLAMI*", user="ubuntu")  # one that it has
Command = tuple[str, ...]  # a module and its arguments


@dataclass(frozen=True)
class Row:
    """Everything in which one emulated cloud differs from another."""

    double: Double | None  # None: a dynamic provider, which is the real one
    module: str | None  # of the double
    offer: Offer
    serve: Callable[[int], Command]  # what listens on a port of loopback
    serve_machines: Callable[[int], Command]  # the same with a machine behind each instance
    variables: Callable[[str], dict[str, str]]  # what leads SDKs and doubles to its URL, and nothing else
    reset: str  # where a POST empties it
    image: Image | None = None  # None = the program's own
    allow_from: tuple[str, ...] = ("203.0.113.7/32",)  # where there is a firewall
    regions: tuple[str, ...] = ()  # where to look; empty = where the program says


def _offer(provider: str, region: str, instance_type: str, usd_per_hour: str, *, gpu: str | None, num_gpus: int) -> Offer:
    return Offer(
        provider=provider,
        region=region,
        instance_type=instance_type,
        purchase="on_demand",
        gpu=gpu,
        num_gpus=Decimal(num_gpus),
        hosts="data centre",
        usd_per_hour=Decimal(usd_per_hour),
        observed_on=dt.date(2026, 11, 1),
        source="made up for the test",
    )


def _world(dialect: str, *more: str) -> Callable[[int], Command]:
    return lambda port: ("tests.doubles.world.serve", dialect, str(port), *more)


CLOUDS: Final = {
    "aws": Row(
        double=aws.AWS,
        module="tests.doubles.plugins.aws",
        offer=_offer("aws", "eu-central-1", "g5.xlarge", "1.006", gpu="A10G", num_gpus=1),
        serve=lambda port: ("moto.server", "-H", "127.0.0.1", "-p", str(port)),
        serve_machines=lambda port: ("tests.doubles.hosting.hosted", str(port)),
        variables=lambda url: {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-account",
            "AWS_EC2_METADATA_DISABLED": "true",
        },
        reset="/moto-api/reset",
        image=MOTOS_IMAGE,
        regions=("eu-central-1", "us-east-1"),
    ),
    "hetzner": Row(
        double=hcloud.HCLOUD,
        module="tests.doubles.plugins.hcloud",
        offer=_offer("hetzner", "fsn1", "ccx13", "0.02", gpu=None, num_gpus=0),
        serve=_world("hetzner"),
        serve_machines=_world("hetzner", "machines"),
        variables=lambda url: {"HCLOUD_ENDPOINT": f"{url}/v1", "HCLOUD_TOKEN": TOKEN},
        reset="/_world/reset",
    ),
    "digitalocean": Row(
        double=digitalocean.DIGITALOCEAN,
        module="tests.doubles.plugins.digitalocean",
        offer=_offer("digitalocean", "tor1", "gpu-l40sx1-48gb", "1.57", gpu="L40S", num_gpus=1),
        serve=_world("digitalocean"),
        serve_machines=_world("digitalocean", "machines"),
        variables=lambda url: {"DIGITALOCEAN_API_URL": url, "DIGITALOCEAN_TOKEN": TOKEN},
        reset="/_world/reset",
    ),
    "gcp": Row(
        double=gcp.GCP,
        module="tests.doubles.plugins.gcp",
        offer=_offer("gcp", "us-central1", "g2-standard-4", "0.70", gpu="L4", num_gpus=1),
        serve=_world("gcp"),
        serve_machines=_world("gcp", "machines"),
        variables=lambda url: {
            "GOOGLE_COMPUTE_CUSTOM_ENDPOINT": f"{url}/compute/v1/",
            "GOOGLE_OAUTH_ACCESS_TOKEN": TOKEN,
            "GOOGLE_PROJECT": PROJECT,
        },
        reset="/_world/reset",
    ),
    "runpod": Row(
        double=None,
        module=None,
        offer=_offer("runpod", "*", "1x-rtx-4090-secure", "0.74", gpu="RTX 4090", num_gpus=1),
        serve=_world("runpod"),
        serve_machines=_world("runpod", "machines"),
        variables=lambda url: {"RUNPOD_REST_URL": f"{url}/v2", "RUNPOD_API_KEY": TOKEN},
        reset="/_world/reset",
        allow_from=(),
    ),
}
