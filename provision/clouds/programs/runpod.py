"""RunPod: one pod, which is a container on somebody's machine with GPUs; and what of ours is still there.

Layers of the deadline here: RunPod has none of its own that can be relied on (a flag of its command line was accepted and
never fired: runpod/docs, pull request 820), and a container that ends is started again. So the start command asks RunPod
for the pod's end, with the key that RunPod gives every pod for itself alone (see runpod_pods.py).

There are no tags: the run is in the pod's name, and all that our tags say in its environment. There is no firewall: SSH is
open to everybody and admits the key of the run. And the API rents nothing interruptible since its second version.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import Any, Final

import msgspec
import pulumi

from catalogs.hardware import Offer
from catalogs.sellers import RUNPOD_GPU_IDS, RUNPOD_TYPE
from provision.clouds.container import ENTRYPOINT, START_VARIABLE
from provision.clouds.programs.accounts.runpod_api import (
    BAD_KEY,
    NO_CAPACITY,
    TOO_POOR,
    UNKNOWN_GPU,
    connect,
    log,
    path_of,
    pods,
)
from provision.clouds.programs.order import (
    GIB,
    OURS,
    RUN_TAG,
    SSH_PORT,
    Image,
    Order,
    PowerOff,
    require_no_spot,
    tagged_resource,
)
from provision.clouds.programs.rest import ANYWHERE, EVERYWHERE, Json, as_owned
from provision.clouds.programs.runpod_pods import Address, Pod
from provision.clouds.quotas import Quota
from provision.clouds.refusals import Refusal
from provision.errors import Reason, Refused, Scope
from provision.provisioner import Layer, Owned, Resource
from remote.contract import decode
from remote.drivers import TORCH_CUDA, least_driver

PLUGIN: Final = None  # a dynamic provider; what starts it comes with the engine
KINDS: Final = {
    "pulumi-python:dynamic/runpod:Pod": "instance",
    "pulumi-python:dynamic/runpod:Address": "address",
}
VOLUMES: Final = None
ADDRESS: Final = ("pulumi-python:dynamic/runpod:Address", "host", "port")
IMAGE: Final = Image(
    owner="runpod",
    name="runpod/pytorch:1.0.7-cu1300-torch291-ubuntu2404",
    user="root",
    told_by="start command",
    driver=least_driver(),  # the host's: one with an older driver is not taken (MIN_CUDA)
    source="runpod/containers on GitHub: sshd, curl and uv are in it",
    as_of=dt.date(2026, 11, 26),
)
GPU_QUOTAS: Final[tuple[str, ...]] = ()
POWER_OFF: Final = PowerOff.REBOOTS
REFUSALS: Final = (  # by our own words for what its API says (accounts/runpod_api.py)
    Refusal(NO_CAPACITY, Reason.CAPACITY, Scope.OFFER, NO_CAPACITY),
    Refusal(TOO_POOR, Reason.QUOTA, Scope.CLOUD, TOO_POOR),
    Refusal(BAD_KEY, Reason.CREDENTIALS, Scope.CLOUD, BAD_KEY),
    Refusal(UNKNOWN_GPU, Reason.CAPACITY, Scope.INSTANCE_TYPE, UNKNOWN_GPU),
)
TAGS_VARIABLE: Final = "RENTUNE_TAGS"
MIN_CUDA: Final = f"{TORCH_CUDA[0]}.0"  # derived: a driver for the first of a major version runs all of it (remote.drivers)
LEAST_DISK_GB: Final = 20  # assumed; RunPod's own default, and without a size it refuses a pod
GB: Final = 10**9
CLOUDS: Final = {"secure": "SECURE", "community": "COMMUNITY"}


# ── the program ────────────────────────────────────────────────────────────────────────────────────────────────────


def plugin_version() -> str:
    """The SDK's own, for its dynamic providers are part of it."""
    return version("pulumi")


def image_of(instance_type: str, image: Image) -> Image:
    """One for all types."""
    return image


def program(order: Order) -> Callable[[], None]:
    """The pod of one run as a closure for the Automation API; its exports are for people, we read the state.

    Raises Refused for what RunPod can't do.
    """
    body = _body(order)
    told = {START_VARIABLE: order.user_data, TAGS_VARIABLE: json.dumps(order.tags)}

    def run() -> None:
        pod = Pod("box", json.dumps(body), pulumi.Output.secret(json.dumps(told)))
        address = Address("address", pod.id)
        pulumi.export("host", address.host)
        pulumi.export("port", address.port)
        pulumi.export("user", order.image.user)
        pulumi.export("host_key", order.host_key)
        pulumi.export("pod", pod.id)

    return run


def _body(order: Order) -> dict[str, Any]:
    """RunPod's CreatePodRequest without its environment, which is a secret."""
    require_no_spot("RunPod", order)
    if order.allow_from:
        raise Refused(
            "RunPod has no firewall, so --allow-from can't be kept.",
            hint="Leave it out: SSH is open to everybody there and admits only the key of the run.",
        )
    count, gpu, cloud = _offered(order.instance_type)
    body: dict[str, Any] = {
        "name": order.name,
        "image": order.image.name,
        "gpu": {"id": gpu, "count": count, "minCudaVersion": MIN_CUDA},
        "cloud": cloud,
        "disk": max(LEAST_DISK_GB, math.ceil(order.disk_gib * GIB / GB)),
        "ports": [f"{SSH_PORT}/tcp"],
        "entrypoint": list(ENTRYPOINT),
    }
    # RunPod finds a place by itself; a region is the id of one of its data centres.
    return body if order.region == ANYWHERE else body | {"dataCenterIds": [order.region]}


def _offered(instance_type: str) -> tuple[int, str, str]:
    """How many of which GPU in which of RunPod's two clouds."""
    found = RUNPOD_TYPE.fullmatch(instance_type)
    if found is None or found[2] not in RUNPOD_GPU_IDS:
        raise Refused(f"What {instance_type!r} is called at RunPod is not known.", hint="Choose another GPU with --gpu.")
    return int(found[1]), RUNPOD_GPU_IDS[found[2]], CLOUDS[found[3]]


# ── the cloud itself ───────────────────────────────────────────────────────────────────────────────────────────────


def needs(offer: Offer) -> dict[str, float]:
    """Nothing that is known: the fields of its limit of dollars an hour (docs.runpod.io, 2026-11-18) have been read nowhere."""
    return {}


def quotas(region: str, names: Iterable[str], environment: Mapping[str, str]) -> tuple[Quota, ...]:
    """None."""
    return ()


def regions(environment: Mapping[str, str]) -> tuple[str, ...]:
    """One, to look in and to rent in: pods are listed for the whole account at once."""
    return EVERYWHERE


def owned(region: str, tag: str | None, environment: Mapping[str, str]) -> Owned:
    """Pods of ours that are not gone yet, wherever they are."""
    return as_owned(lambda: _listed(environment, tag))


def _listed(environment: Mapping[str, str], tag: str | None) -> Iterator[Resource]:
    ours = (_resource(pod) for pod in pods(connect(environment)) if pod["name"].startswith(OURS))
    return (each for each in ours if tag in (None, each.run_id))


def _resource(pod: Json) -> Resource:
    """By its environment; one that lost it still has the run's name, and is known by that alone."""
    by_name = {RUN_TAG: pod["name"].removeprefix(OURS)}
    try:
        tags = decode(pod["env"][TAGS_VARIABLE], dict[str, str])
    except (KeyError, TypeError, msgspec.DecodeError):
        tags = {}
    return tagged_resource("instance", pod["id"], pod.get("dataCenterId") or "", by_name | tags, bills=True)


def destroy_stray(resource: Resource, environment: Mapping[str, str]) -> None:
    """Delete one pod and what it holds."""
    if resource.kind == "instance":
        connect(environment).delete(path_of(resource.id))


def admit(region: str, run_id: str, cidrs: tuple[str, ...], environment: Mapping[str, str]) -> None:
    """Nothing to do: there is no firewall."""


def console(instance: Resource, environment: Mapping[str, str]) -> str:
    """What the container has written."""
    return log(connect(environment), instance.id)


def guards(instance: Resource, environment: Mapping[str, str]) -> tuple[Layer, ...]:
    """None: RunPod has no limit that can be relied on."""
    return ()


def caller_address() -> None:
    """It does not matter from where one comes: there is no firewall."""
