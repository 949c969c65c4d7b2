"""What a cloud's refusal rules out, by its own words."""

from __future__ import annotations

import re

import pytest

from provision.clouds.programs import CLOUDS, load_cloud
from provision.clouds.programs.accounts.refusals import Refusal, read_refusal
from provision.errors import Declined, Reason, Scope

# As the vendor's plugin hands it on, and as the API says it.
EC2 = (
    "creating EC2 Instance: operation error EC2: RunInstances, https response error StatusCode: {}, RequestID: 1f, api error {}"
)
SAID = [
    (
        "aws",
        EC2.format(
            500,
            "InsufficientInstanceCapacity: We currently do not have sufficient g5.xlarge capacity in the Availability Zone you "
            "requested (us-east-1a).",
        ),
        (Reason.CAPACITY, Scope.ZONE, "aws declined: no machine of this type is free in us-east-1a."),
    ),
    (
        "aws",
        EC2.format(500, "InsufficientInstanceCapacity: There is no Spot capacity available that matches your request."),
        (Reason.CAPACITY, Scope.OFFER, "aws declined: no machine of this type is free there."),
    ),
    (
        "aws",
        EC2.format(
            400,
            "Unsupported: Your requested instance type (g6.xlarge) is not supported in your requested Availability Zone "
            "(us-east-1e).",
        ),
        (Reason.CAPACITY, Scope.ZONE, "aws declined: it does not offer this type in us-east-1e."),
    ),
    (
        "aws",
        "eu-central-1 has no other zone with g5.xlarge.",
        (Reason.CAPACITY, Scope.OFFER, "aws declined: it does not offer this type there."),
    ),
    (
        "aws",
        EC2.format(
            400,
            "VcpuLimitExceeded: You have requested more vCPU capacity than your current vCPU limit of 8 allows for the "
            "instance bucket that the specified instance type belongs to.",
        ),
        (
            Reason.QUOTA,
            Scope.REGION,
            "aws declined: this machine needs more vCPUs than the account may have of its family in the region (8).",
        ),
    ),
    (
        "aws",
        EC2.format(400, "MaxSpotInstanceCountExceeded: Max spot instance count exceeded"),
        (Reason.QUOTA, Scope.REGION, "aws declined: the account may have no more spot machines in the region."),
    ),
    (
        "aws",
        EC2.format(
            400,
            "SpotMaxPriceTooLow: Your Spot request price of 0.31 is lower than the minimum required Spot request fulfillment "
            "price of 0.402.",
        ),
        (Reason.PRICE, Scope.OFFER, "aws declined: its spot price has risen to $0.402 an hour, and $0.31 was planned."),
    ),
    (
        "aws",
        EC2.format(403, "UnauthorizedOperation: You are not authorized to perform this operation."),
        (
            Reason.PERMISSION,
            Scope.CLOUD,
            "aws declined: the account may not do what a run needs (`rentune doctor --permissions aws` lists it).",
        ),
    ),
    (
        "aws",
        EC2.format(401, "AuthFailure: AWS was not able to validate the provided access credentials"),
        (Reason.CREDENTIALS, Scope.CLOUD, "aws declined: the credentials are not valid, or not any more."),
    ),
    (
        "aws",
        "ExpiredToken: The security token included in the request is expired",
        (Reason.CREDENTIALS, Scope.CLOUD, "aws declined: the credentials are not valid, or not any more."),
    ),
    (
        "hetzner",
        "error during placement (resource_unavailable, 8e2f)",
        (Reason.CAPACITY, Scope.OFFER, "hetzner declined: no machine of this type is free there."),
    ),
    (
        "hetzner",
        "server limit reached (resource_limit_exceeded, 8e2f)",
        (Reason.QUOTA, Scope.CLOUD, "hetzner declined: the project may have no more machines."),
    ),
    (
        "digitalocean",
        "422 (request 1a) creating this/these droplet(s) will exceed your droplet limit",
        (Reason.QUOTA, Scope.CLOUD, "digitalocean declined: the account may have no more droplets."),
    ),
    (
        "digitalocean",
        "422 The size you selected is temporarily unavailable.",
        (Reason.CAPACITY, Scope.OFFER, "digitalocean declined: no machine of this size is free there."),
    ),
    (
        "gcp",
        "The zone 'projects/p/zones/us-central1-a' does not have enough resources available to fulfill the request.",
        (Reason.CAPACITY, Scope.ZONE, "gcp declined: no machine of this type is free in us-central1-a."),
    ),
    (
        "gcp",
        "A g2-standard-4 VM instance is currently unavailable in the us-central1-b zone. (ZONE_RESOURCE_POOL_EXHAUSTED)",
        (Reason.CAPACITY, Scope.ZONE, "gcp declined: no machine of this type is free in us-central1-b."),
    ),
    (
        "gcp",
        "us-central1 has no zone with g2-standard-4.",
        (Reason.CAPACITY, Scope.OFFER, "gcp declined: no machine of this type is free there."),
    ),
    (
        "gcp",
        "googleapi: Error 403: Quota 'GPUS_ALL_REGIONS' exceeded.  Limit: 0.0 globally., quotaExceeded",
        (
            Reason.QUOTA,
            Scope.CLOUD,
            "gcp declined: this machine needs more than the project may have anywhere (GPUS_ALL_REGIONS: 0.0).",
        ),
    ),
    (
        "gcp",
        "Quota 'NVIDIA_L4_GPUS' exceeded.  Limit: 1.0 in region us-central1., quotaExceeded",
        (
            Reason.QUOTA,
            Scope.REGION,
            "gcp declined: this machine needs more than the project may have in the region (NVIDIA_L4_GPUS: 1.0).",
        ),
    ),
    (
        "gcp",
        "googleapi: Error 403: Required 'compute.instances.create' permission for 'projects/p/zones/z/instances/i', forbidden",
        (
            Reason.PERMISSION,
            Scope.CLOUD,
            "gcp declined: the project does not allow what a run needs (`rentune doctor --permissions gcp` lists it).",
        ),
    ),
    (
        "gcp",
        "authError: Request had invalid authentication credentials.",
        (Reason.CREDENTIALS, Scope.CLOUD, "gcp declined: the credentials are not valid, or not any more."),
    ),
]


def unread(said: str) -> Declined:
    return Declined(f"Creating the box failed: {said}", reason=Reason.UNKNOWN, scope=Scope.OFFER)


@pytest.mark.parametrize(("cloud", "said", "means"), SAID)
def test_a_refusal_is_read_for_what_it_rules_out(cloud: str, said: str, means: tuple[Reason, Scope, str]) -> None:
    """Room is a matter of one offer, quota of a region or the account, credentials of the cloud."""
    read = read_refusal(load_cloud(cloud).REFUSALS, unread(said), cloud=cloud)
    assert (read.reason, read.scope, str(read)) == means


@pytest.mark.parametrize("cloud", CLOUDS)
def test_what_no_row_knows_rules_out_its_own_offer_alone(cloud: str) -> None:
    """And is told in the cloud's own words."""
    read = read_refusal(load_cloud(cloud).REFUSALS, unread("the moon is in the wrong place"), cloud=cloud)
    assert (read.reason, read.scope) == (Reason.UNKNOWN, Scope.OFFER)
    told = "the moon is in the wrong place"
    assert str(read) == f"Creating the box failed: {told}"


def test_the_first_row_that_matches_wins() -> None:
    rows = (
        Refusal("no room", Reason.CAPACITY, Scope.OFFER, "full"),
        Refusal("room", Reason.QUOTA, Scope.CLOUD, "never read"),
    )
    assert str(read_refusal(rows, unread("there is NO ROOM"), cloud="a cloud")) == "a cloud declined: full."


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_row_can_be_read(cloud: str) -> None:
    """Its pattern is one, and its sentence names only groups that the pattern has."""
    for row in load_cloud(cloud).REFUSALS:
        assert set(re.findall(r"\\g<(\w+)>", row.words)) <= set(re.compile(row.said).groupindex)
        assert not row.words.endswith(".")
        assert (row.scope is Scope.ZONE) == ("zone" in re.compile(row.said).groupindex)
