"""What a job's machine takes beside its hours: a volume that is kept, electricity, a base that goes there from here."""

from __future__ import annotations

import shlex
from typing import Final

from catalogs.bases.architectures import Architecture
from catalogs.bases.models import QUANTIZATION
from catalogs.hardware import Billing
from planner.asking.request import LOCAL, Where
from planner.asking.sent import Sent
from planner.estimators.cost import volume_gib
from planner.estimators.memory.held.weights import weights_of
from planner.plan import HostEstimate, Plan
from planner.strategy.stack import PINNED_STACK
from planner.units import SECONDS_PER_HOUR, SECONDS_PER_MINUTE, gib
from remote.contract import DOUBLE_QUANTS, PACKED_HERE, Phase

SENT_SHARE: Final = 0.05  # assumed: of a machine's seconds; what takes less is not worth a sentence


def kept_words(name: str, host: HostEstimate, billing: Billing) -> str:
    """What a volume that is kept costs, as a sentence. No part of the job's dollars: it is billed until somebody ends it."""
    size_gib, price = volume_gib(host), billing.volume_usd_per_gib_month
    usd = "at a price that is not known" if price is None else f"at ${size_gib * price:.2f} a month"
    return f"the volume {name} is kept: {size_gib} GiB {usd}, beside the job's dollars, until `rentune down --volumes {name}`"


def electricity_words(where: Where) -> str:
    """What is counted of the electricity of a card of one's own."""
    if where.power_usd_per_kwh is None:
        return "your electricity is not counted; --power-price 0.30 counts it"
    return f"electricity at ${where.power_usd_per_kwh} per kWh, for all that the card may draw and 100 W beside it"


def packed_bytes(plan: Plan, architecture: Architecture, sent: Sent) -> int | None:
    """Of the base's weights once `rentune quantize` has packed them as the plan trains over them; None where it packs none: for
    another quantization, of a GGUF file, or of what is packed already.
    """
    strategy = plan.strategy
    if strategy.quant not in PACKED_HERE or sent.packed or QUANTIZATION in architecture.config:
        return None
    return weights_of(architecture, strategy, task=plan.request.task, stack=PINNED_STACK).before_upcast


def sent_words(plan: Plan, sent: Sent, packed: int | None = None) -> str | None:
    """That a base goes to the plan's machine from here while that bills, where it takes much of its time; else None. `packed`:
    its bytes if it were packed here first.
    """
    if sent.base_bytes is None or plan.offer.provider == LOCAL:
        return None
    brought, whole = plan.duration.phase_s[Phase.DOWNLOAD], plan.duration.wall_s
    if brought.p50 < SENT_SHARE * whole.p50:
        return None
    spared = _packed_words(plan, sent.base_bytes, packed, brought.p90)
    least, most = (max(1, round(seconds / SECONDS_PER_MINUTE)) for seconds in (brought.p50, brought.p90))
    return (
        f"the base goes there from this machine ({gib(sent.base_bytes)}), {least} to {most} min of the machine's time by an "
        f"assumed uplink; one on the hub (--model OWNER/NAME) is fetched there{spared}"
    )


def _packed_words(plan: Plan, base_bytes: int, packed: int | None, most_s: float) -> str:
    """What to type for less to send, where that is less; seconds shrink as bytes do."""
    if packed is None or packed >= base_bytes:
        return ""
    strategy = plan.strategy
    said = f" --quant {strategy.quant}" * (strategy.quant != PACKED_HERE[0])
    said += " --single-quant" * (strategy.quant in DOUBLE_QUANTS and not strategy.double_quant)
    said += f" --dtype {strategy.param_dtype}" * (strategy.param_dtype != "bfloat16")
    at_most = max(1, round(most_s / SECONDS_PER_MINUTE * packed / base_bytes))
    command = f"rentune quantize {shlex.quote(plan.request.model)} --into FOLDER{said}"
    now_usd = float(plan.offer.usd_per_hour) * plan.duration.phase_s[Phase.DOWNLOAD].p50 / SECONDS_PER_HOUR
    dollars = f"${now_usd * packed / base_bytes:.2f} instead of ${now_usd:.2f}"
    return (
        f", and packed here first it is {gib(packed)}, {at_most} min at the most, {dollars}: run --pack-first, or {command}, "
        "then --model FOLDER"
    )
