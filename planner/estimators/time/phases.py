"""Seconds around the training steps, phase by phase: rates and habits of the world, each marked with its basis.

Keys are `remote.contract.Phase`. A range is what one time in ten is below and above; where nothing is measured it is wide.
"""

from __future__ import annotations

from typing import Final

from planner.plan import Range
from planner.units import GB, MB
from remote.contract import Phase


def span(p10: float, p50: float, p90: float) -> Range:
    """Three figures as a Range."""
    return Range(p10=p10, p50=p50, p90=p90)


ZERO: Final = span(0.0, 0.0, 0.0)

# Fixed costs of a rented machine, in seconds.
RENTED: Final[dict[Phase, Range]] = {
    Phase.PREPARE: span(1, 2, 5),  # assumed: keys, files, checks on this side
    Phase.QUEUE: span(0, 0, 60),  # assumed: an offer with room takes us at once
    Phase.CREATE: span(40, 90, 300),  # assumed: 1 to 10 minutes, no measured distribution was found
    Phase.BOOT: span(20, 45, 150),  # assumed
    Phase.ENVIRONMENT: span(35, 70, 240),  # measured: the box stack installs in 32 s on a fast network; 175 s with pip
    Phase.TEARDOWN: span(10, 40, 180),  # assumed
    Phase.CONFIRM: span(2, 10, 60),  # assumed
}
# What its boot takes longer where the image does not say that its driver fits. assumed, 2026-11-28: mostly it does; else 0.4 GB
# are fetched and unpacked in a few minutes, or modules are built (provision/clouds/boot/driver_unit.py)
DRIVER: Final = span(0, 30, 420)
# A box on this machine, or a host that exists: nothing is created.
OWN: Final[dict[Phase, Range]] = {
    Phase.PREPARE: span(0.2, 0.5, 2),  # assumed: files and checks on this side, no keys of a cloud
    Phase.QUEUE: ZERO,
    Phase.CREATE: span(0.1, 0.2, 0.5),  # measured: 0.13 s as a user, 0.24 s as root to the first command over SSH
    Phase.BOOT: span(0.1, 0.2, 0.5),  # measured: with the line above
    Phase.ENVIRONMENT: span(35, 70, 240),  # measured: as on a rented machine
    Phase.TEARDOWN: span(0.05, 0.2, 1),  # measured: 26 ms with namespaces
    Phase.CONFIRM: span(0.05, 0.1, 0.5),  # assumed: a look at this machine's processes
}
# What reads a base in GPTQ, AWQ or HQQ, beside the stack. measured, 2026-11-28: 21 s with uv on two cores, 48 s with pip, some
# of it to compile; assumed: as quick as a look where a run before had it built, two minutes on a slow network
READERS: Final = span(0.5, 30, 120)
REUSED_ENVIRONMENT: Final = span(0.3, 1, 3)  # assumed: a hash is compared, the package is shipped

# Rates, p10 to p90 of the time they give, in bytes per second.
# measured: 1.5 GB/s with hf_transfer on a fast host, 0.1 Gb/s at worst; assumed: what lies between, a slow host at 0.5 Gb/s
HUB_BYTES_PER_S: Final = span(1.5 * GB, 0.4 * GB, 0.06 * GB)
LOAD_BYTES_PER_S: Final = span(2.5 * GB, 1.1 * GB, 0.3 * GB)  # measured: 1.1 GB/s from disk to one H200 (vLLM's documentation)
FETCH_BYTES_PER_S: Final = span(80 * MB, 20 * MB, 3 * MB)  # assumed: a laptop's downlink
SEND_BYTES_PER_S: Final = span(50 * MB, 6 * MB, 1.2 * MB)  # assumed: its uplink, of 400, 50 and 10 Mbit/s
# A GGUF file made into plain weights. measured: 18 s for 135 million parameters in Q4_1 on two cores, half of them for the
# tokenizer and the library's start, 2026-11-28
UNPACK_S: Final = span(4, 9, 25)
UNPACKED_PARAMS_PER_S: Final = span(40e6, 15e6, 6e6)  # measured: with the line above; assumed: other machines, larger models
# measured: 20,000 conversations of 250 tokens in 12 s of a core, SmolLM2's tokenizer and template, 2026-11-28; assumed: what
# more and faster cores make of it, of which templates use one
TOKENIZED_PER_S: Final = span(2e6, 0.6e6, 0.25e6)
# measured: checkpoints of 2.5 and 5 GB at 0.51 to 0.65 GB/s, a virtual machine with an H200, 2026-11-27 (benchmarks/gpu_runs);
# assumed: how far a cloud's block volume, or this machine's disk, lies from that
WRITE_BYTES_PER_S: Final = span(1.5 * GB, 0.5 * GB, 0.15 * GB)

# Of a machine's RAM, what may wait there for the disk before writers are made to wait. derived: vm.dirty_ratio, 20 % unless it
# is set (Linux, Documentation/admin-guide/sysctl/vm.rst)
UNWRITTEN_SHARE_OF_RAM: Final = 0.2
CACHED_SHARE_OF_RAM: Final = 0.8  # assumed, 2026-11-28: of files that were just written, beside the trainer's own memory

# measured: 5.5 to 16 s to import torch, transformers and peft, cold; 13 to 15 s on that virtual machine
IMPORT_S: Final = span(6, 12, 25)
QUANTIZE_SLOWDOWN: Final = 1.5  # measured: 38 s against 26 s for 13B in 4 bits (Hugging Face's blog)
PROBE_OVERHEAD_S: Final = span(0.8, 2, 8)  # measured: 0.7 to 0.9 s beside the steps on that machine; assumed: where it is slow
# To compile a block and its backward pass, once for all that are alike, in the first step of the probe. assumed: 12 to 54 s
# of a tiny Llama by C++ on two busy cores, 2026-11-28; a card's kernels come by way of Triton, which was not timed
COMPILE_S: Final = span(15, 45, 150)
# Likewise a norm, a rotation and a gate by themselves. assumed, 2026-11-28: a third of a block
FUSE_S: Final = span(5, 15, 50)
# To put gcc and Python's headers onto a rented box whose kernels are made there. assumed, 2026-11-28: 60 MB of packages and
# their lists; none where its image has them
COMPILER_S: Final = span(3, 20, 60)
# measured: 0.6 s to reload a 1B base's adapter and compare logits, 5 s for its whole weights; assumed: larger ones
VERIFY_S: Final = span(0.6, 4, 15)
TOKEN_LATENCY_S: Final = span(0.015, 0.03, 0.08)  # measured: 0.026 to 0.08 s a generated token, eager, whatever the GPU
MAX_TOKEN_LATENCY_SHARE: Final = 1.5  # assumed: on a CPU a token costs its share of a step, and half again


def moving(num_bytes: float, rate: Range) -> Range:
    """Seconds to move bytes at a rate whose p10 is the fast one."""
    return span(num_bytes / rate.p10, num_bytes / rate.p50, num_bytes / rate.p90)


def total(*ranges: Range) -> Range:
    """Ranges added end by end: phases of one box are slow together, so this is wide on purpose."""
    p10 = p50 = p90 = 0.0
    for part in ranges:  # a search adds thousands
        p10, p50, p90 = p10 + part.p10, p50 + part.p50, p90 + part.p90
    return span(p10, p50, p90)


def longer(one: Range, other: Range) -> Range:
    """Until both are over that began together."""
    return span(max(one.p10, other.p10), max(one.p50, other.p50), max(one.p90, other.p90))


def beyond(one: Range, other: Range) -> Range:
    """What is left of one when the other, which began with it, is over. Slow machines are slow at both, though hardly alike: no
    part of the range is below the one before it.
    """
    p10, p50, p90 = (max(0.0, of - by) for of, by in ((one.p10, other.p10), (one.p50, other.p50), (one.p90, other.p90)))
    return span(p10, max(p10, p50), max(p10, p50, p90))


def slower(one: Range, other: Range) -> Range:
    """Of two rates that one thing is moved at, the one that it waits for."""
    return span(min(one.p10, other.p10), min(one.p50, other.p50), min(one.p90, other.p90))


def scaled(one: Range, factor: float) -> Range:
    """So many times a range."""
    return span(one.p10 * factor, one.p50 * factor, one.p90 * factor)
