"""What a plan takes for granted, in sentences: the reader sees on what its figures rest."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from catalogs.catalog import age_days, is_stale
from planner.estimators.calibration import ORDERED_DISK_BYTES_PER_S
from planner.estimators.cost import unpriced_line
from planner.estimators.host import least_ram_gib
from planner.estimators.time.interruptions import TAKEN_PER_HOUR
from planner.estimators.time.links import disk_bytes_per_s, node_gbit_per_s
from planner.notices.cards import has_unsure_kernels
from planner.notices.machine import electricity_words, kept_words
from planner.notices.rows import cut_words, packed_words
from planner.search.market.own import is_stated
from planner.search.ranking import Found, Question
from planner.strategy.words import describe
from planner.units import GIB, MB, SECONDS_PER_MINUTE
from remote.contract import disk_blocks


def assumptions(found: Found, question: Question, *, today: dt.date) -> tuple[str, ...]:
    """Everything assumed for this plan, the data first, then the price, last what its provider is known for."""
    caution = question.provider(found.offer.provider).caution
    name = question.request.keep.volume_name
    kept = (kept_words(name, found.host, found.billing),) if name is not None else ()
    price = _price(found, question, today)
    return (
        *_job(question),
        *_way(found),
        *_machine(found, asks_ram=question.provider(found.offer.provider).asks_ram),
        *price,
        *kept,
        *([caution] if caution is not None else ()),
    )


def _job(question: Question) -> Iterator[str]:
    data = question.request.data
    yield f"data: {data.num_examples:,} examples of {data.mean_tokens:,.0f} tokens, {data.basis}"
    if cut := cut_words(data, question.seq_len):
        yield cut
    if laid := packed_words(data, question.seq_len):
        yield laid


def _way(found: Found) -> Iterator[str]:
    """Why something was moved, though the machine holds the job without."""
    if found.plain is None:
        return
    usual = describe(found.plain.fit.strategy)
    yield f"{usual} fits as well, and would take {found.plain.told}: what is moved makes room for what is quicker"


def _machine(found: Found, *, asks_ram: bool) -> Iterator[str]:
    gpu, offer = found.kind.gpu, found.offer
    if found.duration.learned_from:
        runs = "run" if found.duration.learned_from == 1 else "runs"
        yield f"{found.duration.learned_from} earlier {runs}: a step takes {found.duration.learned:.2f} of what is reckoned"
    if gpu is not None:
        yield f"{gpu.name}: {gpu.achievable_tflops:g} TFLOP/s at best in 16-bit products, {gpu.achievable_basis}"
        if gpu.driver_memory_mib is None:
            yield f"{gpu.name}: no driver figure known; {gpu.memory_gib:g} GiB as sold less a reserve"
        if has_unsure_kernels(gpu) and found.fit.strategy.quant != "none":
            yield f"{gpu.name}: bitsandbytes support is {gpu.bitsandbytes}"
    if offer.gpu_free_mib is not None:
        yield f"{offer.gpu} in this machine: {offer.gpu_free_mib:,} MiB are free now; what the desktop holds is taken off"
    if offer.ram_gib is None:
        ram_gib = found.host.ram_peak_bytes / GIB
        told = f"{offer.instance_type}: its RAM is not known; the job needs {ram_gib:.0f} GiB"
        asked = f", and the order asks for {least_ram_gib(found.host.ram_peak_bytes)}"
        yield f"{told}{asked if asks_ram else ''}"
    yield from _untold(found)
    if found.fit.verdict == "tight":
        yield f"memory is tight: {-found.fit.margin_bytes / GIB:.1f} GiB of the safety margin are missing"


def _untold(found: Found) -> Iterator[str]:
    """What decides how long a step takes and no price list states: the disk, and the network between machines."""
    strategy, gpu, provider = found.fit.strategy, found.kind.gpu, found.offer.provider
    ordered = provider in ORDERED_DISK_BYTES_PER_S  # a base is fetched to it, and a checkpoint written, no faster
    if ordered or disk_blocks(strategy):
        reads = disk_bytes_per_s(provider)
        basis = f"what {provider} includes in its price" if ordered else "assumed: preflight measures it"
        moves = "reads and writes" if ordered else "reads"
        yield f"disk: {moves} {reads.p50 / MB:,.0f} MB/s ({reads.p90 / MB:,.0f} to {reads.p10 / MB:,.0f}), {basis}"
    if strategy.num_nodes > 1 and gpu is not None:
        link = node_gbit_per_s(gpu, strategy.num_gpus // strategy.num_nodes)
        yield f"network between the machines: {link.p50:,g} Gb/s ({link.p90:,g} to {link.p10:,g}), assumed of such machines"


def _price(found: Found, question: Question, today: dt.date) -> Iterator[str]:
    offer = found.offer
    if not question.catalog.knows_disk(offer):
        yield f"disk: what {offer.provider} asks for one in {offer.region} is not known; the dearest of its regions counts"
    if (unpriced := unpriced_line(offer.provider, found.cost)) is not None:
        yield unpriced
    if offer.gpu_free_mib is not None or is_stated(offer, question.request.where):
        yield electricity_words(question.request.where)
    if (times := found.duration.interruptions) is not None:
        yield (
            f"spot: taken away {TAKEN_PER_HOUR:g} times an hour, assumed: {times.p50:.2g} at p50, {times.p90:.2g} at p90, "
            f"{found.duration.lost_s / SECONDS_PER_MINUTE:.0f} minutes lost each time; price and stock move by the hour"
        )
    age = age_days(offer, today)
    if age is None and offer.observed_on is not None:
        yield f"price: seen on {offer.observed_on}, a day to come: this machine's clock is behind"
    elif age is None:
        yield "price: undated, may have moved"
    elif is_stale(offer, today):
        yield f"price: {age} days old, may have moved: `rentune catalog refresh` asks again"
