"""How many vCPUs an AWS account may have at once: one quota for a group of families, on demand and at spot prices apart.

A new account has none of the families with GPUs. What a quota is, Service Quotas tells; how much of it is taken, EC2's list of
what runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import botocore.exceptions

from catalogs.hardware import Offer, Purchase
from provision.clouds.programs.accounts.aws_api import asked, connect
from provision.clouds.programs.accounts.quotas import Quota


class _Row(NamedTuple):
    code: str
    name: str  # as the console of Service Quotas lists it
    types: str  # of instances, as a regular expression
    purchase: Purchase


# docs.aws.amazon.com, EC2 User Guide, "Amazon EC2 instance type quotas"; the codes as many tools name them (read 2026-11).
ROWS: Final = (
    _Row("L-DB2E81BA", "Running On-Demand G and VT instances", r"(g|vt)\d", "on_demand"),
    _Row("L-417A185B", "Running On-Demand P instances", r"p\d", "on_demand"),
    _Row("L-1216C47A", "Running On-Demand Standard instances", r"[acdhimrtz]\d", "on_demand"),
    _Row("L-3819A6DF", "All G and VT Spot Instance Requests", r"(g|vt)\d", "spot"),
    _Row("L-C4BD4855", "All P5 Spot Instance Requests", r"p5", "spot"),
    _Row("L-7212CCBC", "All P4, P3 and P2 Spot Instance Requests", r"p[234]", "spot"),
    _Row("L-34B43A08", "All Standard Spot Instance Requests", r"[acdhimrtz]\d", "spot"),
)
GPU_QUOTAS: Final = ("L-DB2E81BA", "L-417A185B", "L-3819A6DF")
BY_CODE: Final = {row.code: row for row in ROWS}
NOT_THERE: Final = "NoSuchResourceException"  # the account has no value of its own, or the region no such quota


def needs(offer: Offer) -> dict[str, float]:
    """Its vCPUs, of the quota that its type counts against; empty where either is not known."""
    row = _row_of(offer.instance_type, offer.purchase)
    return {} if row is None or offer.vcpus is None else {row.code: offer.vcpus}


def _row_of(instance_type: str, purchase: str) -> _Row | None:
    return next((row for row in ROWS if row.purchase == purchase and re.match(row.types, instance_type)), None)


def quotas(region: str, names: Iterable[str], environment: Mapping[str, str]) -> tuple[Quota, ...]:
    """These quotas of the account in the region. Raises ProvisionError where AWS declines."""
    with asked("a look at the account's quotas"):
        service = connect(region, environment, "service-quotas")
        limits = {name: _limit(service, name) for name in names}
        pages = (
            connect(region, environment)
            .get_paginator("describe_instances")
            .paginate(Filters=[{"Name": "instance-state-name", "Values": ["pending", "running"]}])
        )
        rows = [row for page in pages for reservation in page["Reservations"] for row in reservation["Instances"]]
    return tuple(
        Quota(name=BY_CODE[name].name, unit="vCPUs", where=region, limit=limit, used=used_vcpus(rows, name))
        for name, limit in limits.items()
    )


def _limit(service: Any, code: str) -> float | None:
    try:
        return float(service.get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"])
    except botocore.exceptions.ClientError as error:
        if error.response["Error"].get("Code") != NOT_THERE:
            raise
        return None


def used_vcpus(rows: Iterable[Mapping[str, Any]], code: str) -> float | None:
    """Of instances as EC2 lists them, those that count against the quota; None where one does not tell its vCPUs."""
    counted = [row for row in rows if _row_of(row["InstanceType"], row.get("InstanceLifecycle", "on_demand")) is BY_CODE[code]]
    if any("CpuOptions" not in row for row in counted):
        return None
    return float(sum(row["CpuOptions"]["CoreCount"] * row["CpuOptions"]["ThreadsPerCore"] for row in counted))
