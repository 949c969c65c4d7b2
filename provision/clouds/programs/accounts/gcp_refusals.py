"""What Compute Engine says when it declines, and what that rules out."""

from __future__ import annotations

from typing import Final

from provision.clouds.programs.accounts.refusals import Refusal
from provision.errors import Reason, Scope

# Codes and texts of the API (docs.cloud.google.com/compute/docs/troubleshooting; reports of their users, 2026-11).
REFUSALS: Final = (
    Refusal(
        r"zones/(?P<zone>[a-z0-9-]+)' does not have enough resources available",
        Reason.CAPACITY,
        Scope.ZONE,
        r"no machine of this type is free in \g<zone>",
    ),
    Refusal(
        r"currently unavailable in the (?P<zone>[a-z0-9-]+) zone",
        Reason.CAPACITY,
        Scope.ZONE,
        r"no machine of this type is free in \g<zone>",
    ),
    Refusal(
        "ZONE_RESOURCE_POOL_EXHAUSTED|does not have enough resources available|stockout|no zone with",
        Reason.CAPACITY,
        Scope.OFFER,
        "no machine of this type is free there",
    ),
    Refusal(
        r"Quota '(?P<quota>\w+)' exceeded\.\s+Limit: (?P<limit>[\d.]*\d) globally",
        Reason.QUOTA,
        Scope.CLOUD,
        r"this machine needs more than the project may have anywhere (\g<quota>: \g<limit>)",
    ),
    Refusal(
        r"Quota '(?P<quota>\w+)' exceeded\.\s+Limit: (?P<limit>[\d.]*\d)",
        Reason.QUOTA,
        Scope.REGION,
        r"this machine needs more than the project may have in the region (\g<quota>: \g<limit>)",
    ),
    Refusal(
        "quota_?exceeded|Quota '", Reason.QUOTA, Scope.REGION, "the project may have no more of what a run needs in the region"
    ),
    Refusal(
        "unauthenticated|invalid authentication credentials|authError|default credentials|invalid_grant",
        Reason.CREDENTIALS,
        Scope.CLOUD,
        "the credentials are not valid, or not any more",
    ),
    Refusal(
        r"Required '[\w.]+' permission|permission_?denied|\bforbidden|accessNotConfigured|service_?disabled|"
        "networks/default' was not found|Constraint constraints/",
        Reason.PERMISSION,
        Scope.CLOUD,
        "the project does not allow what a run needs (`rentune doctor --permissions gcp` lists it)",
    ),
)
