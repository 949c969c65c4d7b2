"""What EC2 says when it declines, and what that rules out."""

from __future__ import annotations

from typing import Final

from provision.clouds.programs.accounts.refusals import Refusal
from provision.errors import Reason, Scope

# Error codes of the EC2 API and their texts (docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html, 2026-11); the
# provider's own words where it finds no credentials.
REFUSALS: Final = (
    Refusal(
        r"InsufficientInstanceCapacity\b.*Availability Zone you requested \((?P<zone>[a-z0-9-]+)\)",
        Reason.CAPACITY,
        Scope.ZONE,
        r"no machine of this type is free in \g<zone>",
    ),
    Refusal(
        r"Unsupported\b.*requested Availability Zone \((?P<zone>[a-z0-9-]+)\)",
        Reason.CAPACITY,
        Scope.ZONE,
        r"it does not offer this type in \g<zone>",
    ),
    Refusal(
        r"Insufficient(Instance|Host)?Capacity|InsufficientFreeAddressesInSubnet",
        Reason.CAPACITY,
        Scope.OFFER,
        "no machine of this type is free there",
    ),
    Refusal(
        r"no other zone with|Unsupported\b.*(instance type|configuration)",
        Reason.CAPACITY,
        Scope.OFFER,
        "it does not offer this type there",
    ),
    Refusal(
        r"VcpuLimitExceeded.*?limit of (?P<limit>\d+)",
        Reason.QUOTA,
        Scope.REGION,
        r"this machine needs more vCPUs than the account may have of its family in the region (\g<limit>)",
    ),
    Refusal(
        r"VcpuLimitExceeded|InstanceLimitExceeded",
        Reason.QUOTA,
        Scope.REGION,
        "the account may have no more machines of this family in the region",
    ),
    Refusal(
        "MaxSpotInstanceCountExceeded", Reason.QUOTA, Scope.REGION, "the account may have no more spot machines in the region"
    ),
    Refusal(
        r"(SecurityGroup|ResourceLimit|AddressLimit|VolumeLimit|VpcLimit)\w*Exceeded",
        Reason.QUOTA,
        Scope.REGION,
        "the account may have no more of what a run needs in the region",
    ),
    Refusal(
        r"price of (?P<bid>[\d.]*\d) is lower than the minimum required Spot request fulfillment price of (?P<asked>[\d.]*\d)",
        Reason.PRICE,
        Scope.OFFER,
        r"its spot price has risen to $\g<asked> an hour, and $\g<bid> was planned",
    ),
    Refusal("SpotMaxPriceTooLow", Reason.PRICE, Scope.OFFER, "its spot price has risen above the planned one"),
    Refusal(
        "VPCIdNotSpecified|no default VPC", Reason.PERMISSION, Scope.REGION, "the account has no default VPC in the region"
    ),
    Refusal("OptInRequired", Reason.PERMISSION, Scope.REGION, "the account is not signed up for this region or image"),
    Refusal(
        r"AuthFailure|InvalidClientTokenId|SignatureDoesNotMatch|UnrecognizedClient|Expired ?Token|RequestExpired"
        "|no valid credential sources?",
        Reason.CREDENTIALS,
        Scope.CLOUD,
        "the credentials are not valid, or not any more",
    ),
    Refusal(
        r"Unauthorized(Operation)?\b|AccessDenied|PendingVerification|OperationNotPermitted|\bBlocked\b",
        Reason.PERMISSION,
        Scope.CLOUD,
        "the account may not do what a run needs (`rentune doctor --permissions aws` lists it)",
    ),
)
