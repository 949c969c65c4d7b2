"""One row -> one value: what the columns of each table mean. They are listed, so that a type can grow and a format stay."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import get_args

import msgspec

from catalogs.hardware import (
    Basis,
    Billing,
    Confidence,
    CpuArchitecture,
    FormFactor,
    Gpu,
    Hosts,
    Interconnect,
    MemoryType,
    Offer,
    Source,
    SourceKind,
    Support,
    Vendor,
)
from catalogs.read import (
    Row,
    count,
    day,
    disk_gib,
    not_negative,
    num_gpus,
    one_of,
    positive,
    price,
    ram_gib,
    rate,
    vcpus,
    words,
    yes_no,
)


def _fields(columns: str) -> tuple[str, ...]:
    return tuple(columns.split())


GPU_FIELDS = _fields(
    "name aliases vendor architecture compute_capability multiprocessors memory_gib driver_memory_mib torch_memory_gib"
    " memory_type memory_bandwidth_gb_per_s bf16_tflops fp16_tflops fp32_tflops achievable_tflops achievable_basis"
    " pcie_generation pcie_lanes nvlink_gb_per_s host_link_gb_per_s form_factor tdp_w"
    " bf16 flash_attention bitsandbytes confidence source as_of"
)
GPU_WORD_FIELDS = _fields("word taken also")
INSTANCE_FIELDS = _fields(
    "provider instance_type gpu num_gpus interconnect vcpus ram_gib local_disk_gib cpu_architecture source"
)
PRICE_FIELDS = _fields("provider region instance_type on_demand_usd_per_hour spot_usd_per_hour observed_on source confidence")
BILLING_FIELDS = _fields(
    "provider increment_s minimum_s stopped_compute_bills stopped_disk_bills minimum_disk_gib disk_usd_per_gib_month"
    " volume_usd_per_gib_month egress_usd_per_gb egress_free_gb address_usd_per_hour spot_address_usd_per_hour source as_of"
)
DISKS_FIELDS = _fields("provider region kind usd_per_gib_month source as_of")
DISK_KINDS_FIELDS = _fields("provider instance_type kind source as_of")
HOSTS_FIELDS = _fields("provider instance_type hosts source as_of")
SOURCE_FIELDS = _fields("code kind title url commit licence as_of attribution")

_support = one_of(get_args(Support))
_confidence = one_of(get_args(Confidence))
_hosts = one_of(get_args(Hosts))
_form_factor = one_of(get_args(FormFactor))
_memory_type = one_of(get_args(MemoryType))
_vendor = one_of(get_args(Vendor))
_basis = one_of(get_args(Basis))
_interconnect = one_of(get_args(Interconnect))
_cpu_architecture = one_of(get_args(CpuArchitecture))
_source_kind = one_of(get_args(SourceKind))


def _capability(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    if not (major.isdecimal() and minor.isdecimal()):
        raise ValueError(f'"{text}" is not a compute capability such as 8.6')
    return int(major), int(minor)


def gpu_of(row: Row) -> Gpu:
    """A row of gpus.csv."""
    return Gpu(
        name=row.get("name", str),
        aliases=row.maybe("aliases", words) or (),
        vendor=row.get("vendor", _vendor),
        architecture=row.get("architecture", str),
        compute_capability=row.maybe("compute_capability", _capability),
        multiprocessors=row.maybe("multiprocessors", count),
        memory_gib=row.get("memory_gib", positive),
        driver_memory_mib=row.maybe("driver_memory_mib", count),
        torch_memory_gib=row.maybe("torch_memory_gib", positive),
        memory_type=row.maybe("memory_type", _memory_type),
        memory_bandwidth_gb_per_s=row.get("memory_bandwidth_gb_per_s", positive),
        bf16_tflops=row.maybe("bf16_tflops", positive),
        fp16_tflops=row.maybe("fp16_tflops", positive),
        fp32_tflops=row.maybe("fp32_tflops", positive),
        achievable_tflops=row.get("achievable_tflops", positive),
        achievable_basis=row.get("achievable_basis", _basis),
        pcie_generation=row.maybe("pcie_generation", count),
        pcie_lanes=row.get("pcie_lanes", count),
        nvlink_gb_per_s=row.get("nvlink_gb_per_s", not_negative),
        host_link_gb_per_s=row.maybe("host_link_gb_per_s", positive),
        form_factor=row.get("form_factor", _form_factor),
        tdp_w=row.get("tdp_w", positive),
        bf16=row.get("bf16", yes_no),
        flash_attention=row.get("flash_attention", _support),
        bitsandbytes=row.get("bitsandbytes", _support),
        confidence=row.get("confidence", _confidence),
        source=row.get("source", str),
        as_of=row.get("as_of", day),
    )


def instance_of(row: Row) -> dict[str, object]:
    """The fields of an Offer that a row of instances.csv states: all but place and price."""
    return {
        "provider": row.get("provider", str),
        "instance_type": row.get("instance_type", str),
        "gpu": row.maybe("gpu", str),
        "num_gpus": row.get("num_gpus", num_gpus),
        "interconnect": row.get("interconnect", _interconnect),
        "vcpus": row.maybe("vcpus", vcpus),
        "ram_gib": row.maybe("ram_gib", ram_gib),
        "local_disk_gib": row.maybe("local_disk_gib", disk_gib),
        "cpu_architecture": row.get("cpu_architecture", _cpu_architecture),
    }


def offers_of(row: Row, instance: dict[str, object]) -> Iterator[Offer]:
    """A row of prices.csv with its row of instances.csv: the on-demand offer, the spot offer, or both."""
    on_demand, spot = row.maybe("on_demand_usd_per_hour", price), row.maybe("spot_usd_per_hour", price)
    if on_demand is None and spot is None:
        raise row.error("on_demand_usd_per_hour", "is empty, and so is spot_usd_per_hour; a row states one of them at least")
    region, observed_on = row.get("region", str), row.maybe("observed_on", day)
    source, confidence = row.get("source", str), row.get("confidence", _confidence)
    for purchase, usd_per_hour in (("on_demand", on_demand), ("spot", spot)):
        if usd_per_hour is not None:
            yield Offer(
                region=region,
                purchase=purchase,  # type: ignore[arg-type]  # one of two words
                usd_per_hour=usd_per_hour,
                observed_on=observed_on,
                source=source,
                confidence=confidence,
                **instance,  # type: ignore[arg-type]  # parsed by instance_of
            )


class HostsRow(msgspec.Struct, frozen=True):
    """On whose machines a provider's types run, by a pattern of their names; of several rows that fit the first counts."""

    provider: str
    instance_type: str
    hosts: Hosts
    as_of: dt.date

    def fit(self, provider: str, instance_type: str) -> bool:
        return provider == self.provider and fnmatchcase(instance_type, self.instance_type)


def hosts_of(row: Row) -> HostsRow:
    """A row of hosts.csv."""
    return HostsRow(
        provider=row.get("provider", str),
        instance_type=row.get("instance_type", str),
        hosts=row.get("hosts", _hosts),
        as_of=row.get("as_of", day),
    )


def billing_of(row: Row) -> Billing:
    """A row of billing.csv."""
    return Billing(
        provider=row.get("provider", str),
        increment_s=row.get("increment_s", count),
        minimum_s=row.get("minimum_s", count),
        stopped_compute_bills=row.maybe("stopped_compute_bills", yes_no),
        stopped_disk_bills=row.maybe("stopped_disk_bills", yes_no),
        minimum_disk_gib=row.get("minimum_disk_gib", count),
        disk_usd_per_gib_month=row.maybe("disk_usd_per_gib_month", rate),
        volume_usd_per_gib_month=row.maybe("volume_usd_per_gib_month", rate),
        egress_usd_per_gb=row.maybe("egress_usd_per_gb", rate),
        egress_free_gb=row.get("egress_free_gb", count),
        address_usd_per_hour=row.maybe("address_usd_per_hour", rate),
        spot_address_usd_per_hour=row.maybe("spot_address_usd_per_hour", rate),
        source=row.get("source", str),
        as_of=row.maybe("as_of", day),
    )


def source_of(row: Row) -> Source:
    """A row of sources.csv."""
    return Source(
        code=row.get("code", str),
        kind=row.get("kind", _source_kind),
        title=row.get("title", str),
        url=row.maybe("url", str),
        commit=row.maybe("commit", str),
        licence=row.maybe("licence", str),
        as_of=row.get("as_of", day),
        attribution=row.maybe("attribution", str),
    )
