"""What whoever asks must be allowed for each call of our fake Google Cloud, as Compute Engine's reference has it.

Of a call: "IAM permissions" of its page (docs.cloud.google.com/compute/docs/reference/rest/v1). Of a field of an order: "Create
and start a Compute Engine instance", required permissions. Recalled, 2026-11; what networks and a Shielded VM ask was read in
"Create a VM that uses a user-managed service account". The images are of Ubuntu's own projects, open to everybody.
"""

from __future__ import annotations

import re
from typing import Final

from tests.doubles.world.app import Asked, Json
from tests.doubles.world.core import Declined, Reason

ZONE: Final = r"zones/[a-z0-9-]+"
POLICY: Final = "compute.networks.updatePolicy"  # of the network that a rule is of, whatever becomes of the rule

# A method, a path below the project, and the permissions of the call itself.
CALLS: Final[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
    ("GET", "", ("compute.projects.get",)),
    ("GET", "regions/[^/]+", ("compute.regions.get",)),
    ("GET", "zones", ("compute.zones.list",)),
    ("GET", ZONE, ("compute.zones.get",)),
    ("GET", f"{ZONE}/machineTypes", ("compute.machineTypes.list",)),
    ("GET", "global/images/family/[^/]+", ()),
    ("GET", "global/operations/[^/]+", ("compute.globalOperations.get",)),
    ("GET", f"{ZONE}/operations/[^/]+", ("compute.zoneOperations.get",)),
    ("POST", f"{ZONE}/instances", ("compute.instances.create",)),
    ("GET", "aggregated/instances", ("compute.instances.list",)),
    ("GET", f"{ZONE}/instances/[^/]+", ("compute.instances.get",)),
    ("GET", f"{ZONE}/instances/[^/]+/serialPort", ("compute.instances.getSerialPortOutput",)),
    ("POST", f"{ZONE}/instances/[^/]+/attachDisk", ("compute.instances.attachDisk", "compute.disks.use")),
    ("DELETE", f"{ZONE}/instances/[^/]+", ("compute.instances.delete",)),
    ("POST", f"{ZONE}/disks", ("compute.disks.create",)),
    ("GET", "aggregated/disks", ("compute.disks.list",)),
    ("GET", f"{ZONE}/disks/[^/]+", ("compute.disks.get",)),
    ("DELETE", f"{ZONE}/disks/[^/]+", ("compute.disks.delete",)),
    ("POST", "global/firewalls", ("compute.firewalls.create", POLICY)),
    ("GET", "global/firewalls", ("compute.firewalls.list",)),
    ("GET", "global/firewalls/[^/]+", ("compute.firewalls.get",)),
    ("PATCH", "global/firewalls/[^/]+", ("compute.firewalls.update", POLICY)),
    ("DELETE", "global/firewalls/[^/]+", ("compute.firewalls.delete", POLICY)),
)
# What an order of an instance has -> what it takes beside the order.
OF_INSTANCE: Final = {
    "metadata": "compute.instances.setMetadata",
    "labels": "compute.instances.setLabels",
    "tags": "compute.instances.setTags",
    "shieldedInstanceConfig": "compute.instances.updateShieldedVmConfig",
    "networkInterfaces": "compute.subnetworks.use",
}


def needed(asked: Asked) -> tuple[str, ...]:
    """All that this request must be allowed. Raises Declined where nobody has written that down."""
    path = re.sub(r"^/compute/v1/projects/[^/]+/?", "", asked.path)
    for method, pattern, permissions in CALLS:
        if method == asked.method and re.fullmatch(pattern, path):
            return (*permissions, *_of_order(path, asked.body))
    raise Declined(Reason.INVALID, f"it is not written down what {asked.method} {path} must be allowed")


def _of_order(path: str, body: Json) -> list[str]:
    if path.endswith("/instances"):
        external = any(each.get("accessConfigs") for each in body.get("networkInterfaces", []))
        disks = [disk["initializeParams"] for disk in body.get("disks", []) if "initializeParams" in disk]
        return [
            *(permission for field, permission in OF_INSTANCE.items() if body.get(field)),
            *(["compute.subnetworks.useExternalIp"] if external else []),
            *(["compute.disks.create"] if disks else []),
            *(["compute.disks.setLabels"] if any(disk.get("labels") for disk in disks) else []),
        ]
    return ["compute.disks.setLabels"] if path.endswith("/disks") and body.get("labels") else []
