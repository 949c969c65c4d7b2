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
from typing import Any, Final

import msgspec
import pulumi

from catalogs.hardware import ANYWHERE, Offer
from catalogs.sellers import RUNPOD_GPU_IDS, RUNPOD_TYPE
from planner.units import GB, GIB
from provision.clouds.boot.container import ENTRYPOINT, START_VARIABLE
from provision.clouds.programs import Volumes
from provision.clouds.programs.accounts.marks import id_or_mark
from provision.clouds.programs.accounts.quotas import Quota
from provision.clouds.programs.accounts.refusals import Refusal
from provision.clouds.programs.accounts.runpod_api import (
    BAD_KEY,
    NO_CAPACITY,
    TOO_POOR,
    UNKNOWN_GPU,
    connect,
    log,
    path_of,
    pods,
    volume_path,
    volumes,
)
from provision.clouds.programs.order import (
    INSTALLATION_TAG,
    KEPT_TAG,
    MOUNT,
    OURS,
    OWNER_TAG,
    RUN_TAG,
    SSH_PORT,
    TOO_DEAR,
    Image,
    Order,
    PowerOff,
    require_no_spot,
    tagged_resource,
    written_tags,
)
from provision.clouds.programs.rest import EVERYWHERE, Api, Json, as_owned
from provision.clouds.programs.runpod_pods import Address, Pod
from provision.clouds.programs.tagging import LETTERS, escaped, unescaped
from provision.errors import Reason, Refused, Scope
from provision.seam import Answer, Layer, Owned, Resource
from remote.machine.drivers import TORCH_CUDA, least_driver

PLUGIN: Final = None  # a dynamic provider; what starts it comes with the engine
KINDS: Final = {
    "pulumi-python:dynamic/runpod:Pod": "instance",
    "pulumi-python:dynamic/runpod:Address": "address",
}
VOLUMES: Final = Volumes(kinds={}, device=None)  # a network volume: made with the pod (runpod_pods.py), mounted by RunPod
KEPT: Final = "rentune-kept"  # the first word of a volume's name, which is all that RunPod lets one write on it
KEPT_FACTS: Final = (KEPT_TAG, RUN_TAG, INSTALLATION_TAG, OWNER_TAG)  # the others, in this order
KEPT_LETTERS: Final = LETTERS + "-"
LEAST_VOLUME_GB: Final = 10  # source=its API (v2, CreateNetworkVolumeRequest), 2026-11
# Data centres with network volumes: those that RunPod's S3 interface to them is named for (docs.runpod.io, 2026-11). A volume
# lies in one of them; where the offer names none, they are asked for the pod one after the other.
DATA_CENTRES: Final = ("EU-RO-1", "EU-CZ-1", "EUR-IS-1", "US-KS-2")
ADDRESS: Final = ("pulumi-python:dynamic/runpod:Address", "host", "port")
IMAGE: Final = Image(
    owner="runpod",
    name="runpod/pytorch:1.0.7-cu1300-torch291-ubuntu2404",
    user="root",
    told_by="start command",
    driver_branch=least_driver(),  # the host's: one with an older driver is not taken (MIN_CUDA)
    source="runpod/containers on GitHub: sshd, curl and uv are in it",
    as_of=dt.date(2026, 11, 26),
)
WITHOUT_DRIVER: Final[Image | None] = None  # a container has its host's
GPU_QUOTAS: Final[tuple[str, ...]] = ()
POWER_OFF: Final = PowerOff.REBOOTS
REFUSALS: Final = (  # by our own words for what its API says (accounts/runpod_api.py)
    Refusal(NO_CAPACITY, Reason.CAPACITY, Scope.OFFER, NO_CAPACITY),
    Refusal(TOO_POOR, Reason.QUOTA, Scope.CLOUD, TOO_POOR),
    Refusal(BAD_KEY, Reason.CREDENTIALS, Scope.CLOUD, BAD_KEY),
    Refusal(UNKNOWN_GPU, Reason.CAPACITY, Scope.INSTANCE_TYPE, UNKNOWN_GPU),
    TOO_DEAR,
)
TAGS_VARIABLE: Final = "RENTUNE_TAGS"
MIN_CUDA: Final = f"{TORCH_CUDA[0]}.0"  # derived: that of the first runs a whole major version (remote.machine.drivers)
LEAST_VCPUS: Final = 4  # derived: no machine of the price list has fewer for each whole GPU, where they are stated (2026-11)
LEAST_DISK_GB: Final = 20  # assumed; RunPod's own default, and without a size it refuses a pod
CLOUDS: Final = {"secure": "SECURE", "community": "COMMUNITY"}


# ── the program ────────────────────────────────────────────────────────────────────────────────────────────────────


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
        secret = pulumi.Output.secret(json.dumps(told))
        pod = Pod("box", json.dumps(body), secret, json.dumps(_volume(order)), json.dumps(_price(order)))
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
    if order.volume is not None and cloud != CLOUDS["secure"]:
        raise Refused("RunPod's community hosts have no network volumes.", hint="Leave --keep-volume out.")
    body: dict[str, Any] = {
        "name": order.name,
        "image": order.image.name,
        "gpu": {"id": gpu, "count": count, "minCudaVersion": MIN_CUDA} | _host_of(order, count),
        "cloud": cloud,
        "disk": max(LEAST_DISK_GB, math.ceil(order.disk_gib * GIB / GB)),
        "ports": [f"{SSH_PORT}/tcp"],
        "entrypoint": list(ENTRYPOINT),
    }
    # RunPod finds a place by itself; a region is the id of one of its data centres.
    if order.volume is not None and order.volume.id is not None:
        mounted = {"mounts": {"network": [{"volumeId": order.volume.id, "path": MOUNT}]}}
        return body | mounted | {"dataCenterIds": [order.volume.place]}
    return body if order.region == ANYWHERE else body | {"dataCenterIds": [order.region]}


def _host_of(order: Order, count: int) -> dict[str, int]:
    """What its host must have for each GPU, where nobody states it; a host with less is not taken."""
    if not order.ram_gib:
        return {}
    ram_gb = order.ram_gib * GIB / GB
    return {"minRamPerGpu": math.ceil(ram_gb / count), "minVcpuCountPerGpu": LEAST_VCPUS}


def _price(order: Order) -> dict[str, str]:
    """What the pod is to cost at the most; nothing where nobody says."""
    return {} if order.usd_per_hour is None else {"type": order.instance_type, "usd_per_hour": str(order.usd_per_hour)}


def _volume(order: Order) -> dict[str, Any]:
    """The network volume that is to be made with the pod; nothing where there is one, or none is asked for."""
    if order.volume is None or order.volume.id is not None:
        return {}
    return {
        "name": volume_name(order.volume.tags),
        "size": max(LEAST_VOLUME_GB, math.ceil(order.volume.size_gib * GIB / GB)),
        "path": MOUNT,
        "dataCentres": DATA_CENTRES if order.region == ANYWHERE else (order.region,),
    }


def volume_name(tags: Mapping[str, str]) -> str:
    """What tells whose a volume is: RunPod has no tags."""
    return " ".join((KEPT, *(escaped(tags.get(fact, ""), KEPT_LETTERS) for fact in KEPT_FACTS)))


def from_volume_name(name: str) -> dict[str, str]:
    """What `volume_name` was given; empty where somebody else wrote it."""
    first, *facts = name.split(" ")
    if first != KEPT or len(facts) != len(KEPT_FACTS):
        return {}
    return dict(zip(KEPT_FACTS, map(unescaped, facts), strict=True))


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


def account(environment: Mapping[str, str]) -> str:
    """The account that the key belongs to; a team's key tells the team owner's.

    Source: docs.runpod.io/api-reference-v2, "Get your account", 2026-11.
    """
    api = connect(environment)
    return id_or_mark(lambda: str(api.ask("GET", "/account")["id"]), api.token)


def regions(environment: Mapping[str, str]) -> tuple[str, ...]:
    """One, to look in and to rent in: pods are listed for the whole account at once."""
    return EVERYWHERE


def owned(region: str, tag: str | None, environment: Mapping[str, str]) -> Owned:
    """Pods and volumes of ours that are not gone yet, wherever they are."""
    return as_owned(lambda: connect(environment), lambda api: _listed(api, tag))


PATHS: Final = {"instance": path_of, "volume": volume_path}  # of what has a bill of its own


def _listed(api: Api, tag: str | None) -> Iterator[Resource]:
    there = list(pods(api))
    used = {mount["volumeId"] for pod in there for mount in (pod.get("mounts") or {}).get("network") or []}
    kept = (_kept(volume, used) for volume in volumes(api) if from_volume_name(_name(volume)))
    ours = (*(_resource(pod) for pod in there if _name(pod).startswith(OURS)), *kept)
    return (each for each in ours if tag in (None, each.run_id))


def _name(row: Json) -> str:
    """What somebody called it; empty where nobody did."""
    return str(row.get("name") or "")


def _kept(volume: Json, used: set[str]) -> Resource:
    tags = from_volume_name(volume["name"])
    found = tagged_resource("volume", volume["id"], volume["dataCenter"], tags, bills=True)
    size_gib = math.ceil(volume["size"] * GB / GIB)  # what it costs is told by the GiB, and is not to be told too low
    return msgspec.structs.replace(found, size_gib=size_gib, in_use=volume["id"] in used)


def _resource(pod: Json) -> Resource:
    """By its environment; one that lost it still has the run's name, and is known by that alone."""
    by_name = {RUN_TAG: pod["name"].removeprefix(OURS)}
    env = pod.get("env")
    tags = written_tags(env.get(TAGS_VARIABLE) if isinstance(env, dict) else None)
    place, made_at = pod.get("dataCenterId") or "", pod.get("createdAt")
    found = tagged_resource("instance", pod["id"], place, by_name | tags, bills=True, made_at=made_at)
    return msgspec.structs.replace(found, runs=RUNS.get(pod["status"], Answer.UNKNOWN), off_gib=_off_gib(pod))


# Status of a pod (docs.runpod.io/api-reference-v2, "Get a pod", 2026-11) -> whether it runs; of "ERROR" nothing is said.
RUNS: Final = {**dict.fromkeys(("PROVISIONING", "STARTING", "RUNNING"), Answer.YES), "EXITED": Answer.NO}


def _off_gib(pod: Json) -> int | None:
    """Nothing: of a stopped pod the container disk is not billed (docs.runpod.io, "Manage Pods", 2026-11), and a network volume
    has a bill of its own. Of any other disk nobody here knows.
    """
    return 0 if set(pod.get("mounts") or {}) <= {"network"} else None


def destroy_stray(resource: Resource, environment: Mapping[str, str]) -> None:
    """Delete one pod and what it holds, or one volume."""
    if resource.kind in PATHS:
        connect(environment).delete(PATHS[resource.kind](resource.id))


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
