"""Accounted bytes of layer streaming beside the plan's: on the device, in the host's RAM and on its disk, at real shapes.

    python -m benchmarks.streaming.bytes [--real] [--write]

A model of each shape is laid out by the trainer's own code (`remote.streaming.stream`): the same places, layouts, slots and
arenas. What it lays out are tensors without storage (torch's meta device), so that 100 billion parameters need no RAM: what is
counted is what was asked for, tensor by tensor and arena by arena, and nothing computes. With --real the blocks of an 8B
and a 32B are filled with random codes for real, and the growth of the process's own memory stands beside the arenas.
"""

from __future__ import annotations

import argparse
import gc
import mmap
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from benchmarks.machine import RESULTS, describe_machine
from benchmarks.streaming.campaign import LARGE, QLORA
from benchmarks.streaming.gradients import by
from catalogs.bases.models import resolve_model
from planner.estimators.host import estimate_host
from planner.estimators.memory import estimate_vram
from remote.contract import Strategy, Streaming

RESULT: Final = RESULTS / "streaming_bytes.md"
GB: Final = 1e9
SHAPES: Final[Mapping[str, dict[str, Any]]] = {
    **{name: dict(resolve_model(name).config) for name in ("llama-3.1-8b", "qwen2.5-32b", "llama-3.3-70b")},
    "100b": LARGE,
}
WAYS: Final[Mapping[str, Streaming]] = {
    "two slots": by(2),
    "two slots, embedding and head, too": by(2, vocabulary_passes=True),
    "three slots, 16 resident": by(3, 16),
    "two slots, 16 resident, 8 on the disk": by(2, 16, 8),
}
REAL: Final[tuple[tuple[str, Streaming], ...]] = (
    ("llama-3.1-8b", by(2, 8)),
    ("llama-3.1-8b", by(2, 0, 24)),
    ("qwen2.5-32b", by(2, 0, 48)),  # 10 GB of RAM
)
REAL_TOKENS: Final = 8
LOOK_S: Final = 0.02
INTRODUCTION: Final = """\
LoRA over nf4 with double quantization. Laid out: by the trainer's own code, places, layouts, slots, arenas and file, on tensors
without storage, so that nothing of 100 billion parameters need be there; what is counted is what was asked for. Planned: the
closed forms. On the disk each block begins at a page, which no plan counts."""
FOR_REAL: Final = """\
For real: blocks of random codes on a CPU, whose RAM is the device's too; what a process's own memory grew by (RssAnon), which
what is mapped from the disk is no part of, beside what is accounted. An arena that is not full takes less than it was asked
for; activations and the adapter come on top in a step. Its seconds are those of a machine with other work beside it."""


class Bytes(NamedTuple):
    """What lies where, of a base that is streamed."""

    device: int  # slots, resident blocks, and all that never travels
    ram: int  # arenas, and the buffers that blocks on the disk are read into
    disk: int


def streamed(strategy: Strategy, streaming: Streaming) -> Strategy:
    """The strategy with its blocks streamed so."""
    return msgspec.structs.replace(strategy, offload="stream", streaming=streaming)


def planned(config: Mapping[str, Any], strategy: Strategy) -> Bytes:
    """As the closed form counts them."""
    architecture = resolve_model(dict(config))
    host = estimate_host(architecture, strategy, num_gpus=1, on_cpu=False)
    return Bytes(
        device=estimate_vram(architecture, strategy).components["weights"],
        ram=_in_step(architecture, strategy),
        disk=host.disk_components.get("streamed", 0),
    )


def _in_step(architecture: Any, strategy: Strategy) -> int:
    """RAM that weights take while it trains."""
    resident = msgspec.structs.replace(strategy, offload="none", streaming=None)
    of_step = [
        estimate_host(architecture, each, num_gpus=1, on_cpu=False).ram_by_instant["step"] for each in (strategy, resident)
    ]
    return of_step[0] - of_step[1]


def laid_out(config: Mapping[str, Any], strategy: Strategy) -> Bytes:
    """As the trainer lays them out, on a device that holds nothing."""
    from remote.measure.random_weights import random_model
    from remote.streaming.lanes import AtOnce

    with tempfile.TemporaryDirectory() as folder, _without_storage():
        return accounted(random_model(config, strategy, "meta", disk=Path(folder), lane=AtOnce()))


@contextmanager
def _without_storage() -> Iterator[None]:
    """Arenas and blocks on the disk are asked for and counted as ever, and take neither RAM nor disk."""
    import torch

    from remote.streaming import store, streamed, tier

    def nowhere(_device: str, size_bytes: int) -> Any:
        return torch.empty(size_bytes, dtype=torch.uint8, device="meta")

    class Store(store.HostStore):
        def _arena(self, size_bytes: int) -> Any:
            self.arena_bytes.append(size_bytes)
            return nowhere("", size_bytes)

    class File(tier.BlockFile):
        def add(self, block: Any) -> tier.Extent:
            extent = tier.Extent(self.size_bytes, int(block.numel()))
            self.size_bytes += -(-extent.size_bytes // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
            return extent

        def mapped(self, extent: tier.Extent) -> Any:
            return nowhere("", extent.size_bytes)

    instead = {"HostStore": Store, "file_in": File, "_bytes_on": nowhere}
    before = {name: getattr(streamed, name) for name in instead}
    try:
        for name, other in instead.items():
            setattr(streamed, name, other)
        yield
    finally:
        for name, own in before.items():
            setattr(streamed, name, own)


def accounted(model: Any) -> Bytes:
    """Of a model that stands: each tensor that does not travel, the slots, the arenas, the file."""
    from remote.streaming import streamed_of
    from remote.streaming.places import places_in

    found = streamed_of(model)
    assert found is not None
    travelling = found.travelling()
    staying = {place.key: place.read() for place in places_in(model) if place.key not in travelling}
    slots = found.device_bytes - found.held.resident_bytes
    return Bytes(
        device=sum(tensor.numel() * tensor.element_size() for tensor in staying.values()) + slots,
        ram=sum(found.held.arenas),
        disk=found.held.disk_bytes,
    )


# ── for real ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Grown(NamedTuple):
    """What a process of its own took, filled with random codes and stepped once, on a CPU whose RAM is the device's as well."""

    accounted: Bytes
    at_rest_bytes: int  # of its own memory, grown since before
    peak_bytes: int
    step_s: float
    read_gb_per_s: float | None


def really(config: Mapping[str, Any], strategy: Strategy, folder: Path) -> Grown:
    """With one forward and backward pass of a few tokens."""
    import torch

    from remote.adapters import adapt, base_of
    from remote.bases.base import checkpoint_activations
    from remote.contract import Loop
    from remote.measure.random_weights import random_batch, random_model, vocabulary_of
    from remote.streaming import settle, streamed_of

    gc.collect()
    before, peak = own_bytes(), [0]
    done = threading.Event()

    def look() -> None:
        while not done.wait(LOOK_S):
            peak[0] = max(peak[0], own_bytes())

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        model = random_model(config, strategy, "cpu", disk=folder)
        found = accounted(model)
        at_rest = own_bytes()
        model = adapt(model, strategy, Loop())
        settle(model)
        checkpoint_activations(base_of(model), strategy)
        (micro,) = random_batch(strategy, vocabulary=vocabulary_of(config, model.train()), device="cpu")
        started_s = time.monotonic()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            model(input_ids=micro.input_ids, labels=micro.labels, use_cache=False).loss.backward()
        step_s = time.monotonic() - started_s
    finally:
        done.set()
        watcher.join()
    reader = getattr(streamed_of(model), "reader", None)
    speed = None if reader is None else reader.bytes_per_s / GB
    return Grown(found, at_rest - before, peak[0] - before, step_s, speed)


def own_bytes() -> int:
    """Of this process's memory what no file gives back (RssAnon)."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) * 1024


# ── told ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def table(strategy: Strategy) -> Iterator[str]:
    """A row for each shape and way."""
    yield "| shape | way | device GB, laid out / planned | RAM GB, laid out / planned | disk GB, laid out / planned |"
    yield "| --- | --- | --- | --- | --- |"
    for name, config in SHAPES.items():
        for words, streaming in WAYS.items():
            asked = streamed(strategy, streaming)
            found, plan = laid_out(config, asked), planned(config, asked)
            cells = (f"{is_so / GB:.4f} / {counted / GB:.4f}" for is_so, counted in zip(found, plan, strict=True))
            yield f"| {name} | {words} | {' | '.join(cells)} |"


def real_table(strategy: Strategy, folder: Path) -> Iterator[str]:
    """A row for each shape that this machine can hold."""
    yield (
        "| shape | way | accounted GB (device, RAM) | grown GB | at the peak of a step | on the disk GB | read at GB/s | "
        f"step of {REAL_TOKENS} tokens s |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for name, streaming in REAL:
        strategy = msgspec.structs.replace(strategy, seq_len=REAL_TOKENS, gradient_accumulation_steps=1)
        grown = really(SHAPES[name], streamed(strategy, streaming), folder)
        found = grown.accounted
        speed = "" if grown.read_gb_per_s is None else f"{grown.read_gb_per_s:.2f}"
        way = f"{streaming.num_slots} slots, {streaming.num_resident_blocks} resident, {streaming.num_disk_blocks} on the disk"
        yield (
            f"| {name} | {way} | {found.device / GB:.2f}, {found.ram / GB:.2f} | {grown.at_rest_bytes / GB:.2f} | "
            f"{grown.peak_bytes / GB:.2f} | {found.disk / GB:.2f} | {speed} | {grown.step_s:.1f} |"
        )
        gc.collect()


def main() -> int:
    """The tables, printed or written down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", action="store_true", help=f"into {RESULT.name}")
    parser.add_argument("--real", action="store_true", help="fill an 8B and a 32B with random codes, in RAM and on the disk")
    said = parser.parse_args()
    lines = [
        "# Bytes of layer streaming, accounted beside planned",
        "",
        f"`python -m benchmarks.streaming.bytes{' --real' if said.real else ''} --write`. {describe_machine()}",
        "",
        INTRODUCTION,
        "",
        *table(QLORA),
    ]
    if said.real:
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            lines += ["", FOR_REAL, "", *real_table(QLORA, Path(folder))]
    text = "\n".join(lines) + "\n"
    if said.write:
        RESULT.write_text(text)
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
