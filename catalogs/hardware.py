"""What is rented and what it is made of: frozen values, a unit in every field name."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from enum import StrEnum
from typing import Final, Literal

import msgspec

Support = Literal["yes", "no", "partial", "build-dependent"]
Confidence = Literal["high", "medium", "low"]
MemoryType = Literal["HBM", "GDDR", "LPDDR"]  # LPDDR is the machine's RAM: the card has none of its own
FormFactor = Literal["pcie", "sxm", "oam", "superchip", "laptop"]  # in a slot, on a board of several, beside its processor
Vendor = Literal["nvidia", "amd", "intel"]
Basis = Literal["measured", "assumed"]
Interconnect = Literal["nvlink", "pcie", "unknown"]
CpuArchitecture = Literal["x86_64", "arm64"]
Purchase = Literal["on_demand", "spot"]
Hosts = Literal["data centre", "community"]  # whose machines they are: a provider's own kind, or anybody's
SourceKind = Literal["data", "fact", "assumption"]
OWN_LIST: Final = "own-list"  # of Offer.source: from a list of the user's own
ANYWHERE: Final = "*"  # of Offer.region: one price everywhere, so whoever rents or the cloud finds the place


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU model. None means that no source states the figure; it never means zero."""

    name: str
    aliases: tuple[str, ...] = ()
    vendor: Vendor
    architecture: str
    compute_capability: tuple[int, int] | None = None
    multiprocessors: int | None = None
    memory_gib: float  # as sold
    driver_memory_mib: int | None = None  # as the driver reports it
    torch_memory_gib: float | None = None  # as torch totals it, the least that was seen; decides what fits
    memory_type: MemoryType | None = None
    memory_bandwidth_gb_per_s: float
    bf16_tflops: float | None = None  # dense datasheet peak with fp32 accumulation
    fp16_tflops: float | None = None
    fp32_tflops: float | None = None
    achievable_tflops: float  # best 16-bit matmul: measured, or assumed as a share of the peak (see `achievable_basis`)
    achievable_basis: Basis
    pcie_generation: int | None = None
    pcie_lanes: int = 16
    nvlink_gb_per_s: float = 0.0  # both directions together; 0 = has none
    host_link_gb_per_s: float | None = None  # a link of its own to its host's processor, both directions; None = it is on PCIe
    form_factor: FormFactor = "pcie"
    tdp_w: float
    bf16: bool
    flash_attention: Support
    bitsandbytes: Support
    confidence: Confidence
    source: str
    as_of: dt.date

    @property
    def computes_in(self) -> Literal["bfloat16", "float16"]:
        """The dtype in which it multiplies fastest, as a Strategy names it."""
        return "bfloat16" if self.bf16 else "float16"

    @property
    def shares_ram(self) -> bool:
        """Whether its memory is its machine's RAM: what waits there takes room of the card, and one card is one machine."""
        return self.memory_type == "LPDDR"


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that can be rented, at one price. On-demand and spot are two offers."""

    provider: str
    region: str  # ANYWHERE = one price everywhere
    instance_type: str
    purchase: Purchase
    gpu: str | None  # a name in the GPU table; None = a CPU box
    num_gpus: Decimal  # 0.125 of a card is sold, too; 0 for a CPU box
    gpu_free_mib: int | None = None  # on each GPU, as read from the machine; None = what the GPU table says
    interconnect: Interconnect = "unknown"
    vcpus: float | None = None
    ram_gib: float | None = None
    local_disk_gib: float | None = None
    cpu_architecture: CpuArchitecture = "x86_64"  # of the host; decides which wheels the box needs
    hosts: Hosts | None = None  # None = not established
    usd_per_hour: Decimal  # the whole box
    setup_usd: Decimal = Decimal(0)  # once, however long it runs
    observed_on: dt.date | None = None  # None = undated, which counts as stale
    source: str
    confidence: Confidence = "medium"

    @property
    def key(self) -> str:
        """Stable and readable: provider/region/instance_type/purchase."""
        return f"{self.provider}/{self.region}/{self.instance_type}/{self.purchase}"

    @property
    def is_stated(self) -> bool:
        """Whether its RAM and its cores are known: what is not told is never taken to be enough."""
        return not self.unstated

    @property
    def unstated(self) -> str:
        """What of it nobody states, RAM before cores; empty where all is known."""
        return "RAM" if self.ram_gib is None else "cores" if self.vcpus is None else ""


class WhileOff(StrEnum):
    """What a provider bills of a machine that is switched off, and still there."""

    NOTHING = "nothing"
    DISK = "its disk"
    AT_LEAST_DISK = "at least its disk"
    EVERYTHING = "everything"
    UNKNOWN = "not known"


# Of (the machine, its disk): what is paid for while it is off. A pair that is not here tells nothing.
WHILE_OFF: Final[dict[tuple[bool | None, bool | None], WhileOff]] = {
    (True, True): WhileOff.EVERYTHING,
    (False, True): WhileOff.DISK,
    (False, False): WhileOff.NOTHING,
    (None, True): WhileOff.AT_LEAST_DISK,
}


class Billing(msgspec.Struct, frozen=True, kw_only=True):
    """How a provider turns hours into dollars."""

    provider: str
    increment_s: int
    minimum_s: int
    stopped_compute_bills: bool | None  # None = not established
    stopped_disk_bills: bool | None
    minimum_disk_gib: int
    disk_usd_per_gib_month: Decimal | None  # of the machine's own disk
    volume_usd_per_gib_month: Decimal | None = None  # of one that is kept; None = not known, or there is none
    egress_usd_per_gb: Decimal | None
    egress_free_gb: int
    address_usd_per_hour: Decimal | None = None  # of a machine's public IPv4; 0 = in its price; None = nobody states one
    spot_address_usd_per_hour: Decimal | None = None  # of a spot machine's, where that is another
    source: str
    as_of: dt.date | None

    @property
    def while_off(self) -> WhileOff:
        """What is billed of a machine that is switched off."""
        return WHILE_OFF.get((self.stopped_compute_bills, self.stopped_disk_bills), WhileOff.UNKNOWN)


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where rows come from. `data` was taken under its licence; a `fact` is single figures; an `assumption` is ours."""

    code: str
    kind: SourceKind
    title: str
    url: str | None = None
    commit: str | None = None
    licence: str | None = None
    as_of: dt.date
    attribution: str | None = None  # what has to be shown beside figures from here
