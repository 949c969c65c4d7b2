"""One model in a process of its own, which steps when it is told to: a line of JSON in, a line out.

    python -m benchmarks.streaming.worker < asked.jsonl

The first line says what to build, each further one how many tokens the next step has. `remote.step.step` is what steps.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from benchmarks.training.built import built
from remote.contract import Loop, Strategy, Value

LOOP: Final = Loop()
COPIES: Final = 10  # of one block over the link, to see how quick it is


class Built(Value, frozen=True, kw_only=True):
    """What the first line asks for."""

    config: dict[str, Any]
    strategy: Strategy
    device: str
    cap_bytes: int | None = None  # of what torch may allocate on the card


def main() -> int:
    lines = iter(sys.stdin)
    asked = msgspec.json.decode(next(lines), type=Built)
    for answer in _answers(asked, lines):
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    return 0


def _answers(asked: Built, lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    import torch

    from remote.adapters import base_of
    from remote.measure.random_weights import random_batch, vocabulary_of
    from remote.step import settings_of, step
    from remote.streaming import streamed_of
    from remote.training.optimizers import build_optimizer

    cuda, strategy = asked.device == "cuda", asked.strategy
    if cuda and asked.cap_bytes is not None:
        torch.cuda.set_per_process_memory_fraction(asked.cap_bytes / torch.cuda.get_device_properties(0).total_memory)
    started = time.monotonic()
    model = built(asked.config, strategy, asked.device, seed=1)
    optimizer = build_optimizer(strategy, model, LOOP)
    settings = settings_of(strategy, asked.device, LOOP.max_grad_norm)
    streamed = streamed_of(model)
    load_peak = torch.cuda.max_memory_allocated() if cuda else None
    yield {
        "built_s": round(time.monotonic() - started, 2),
        "device_name": torch.cuda.get_device_name(0) if cuda else "cpu",
        "load_peak_bytes": load_peak,
        "rss_bytes": _rss_bytes(),
        "streamed": None
        if streamed is None
        else {"device_bytes": streamed.device_bytes, "host_bytes": sum(streamed.held.arenas), "arenas": streamed.held.arenas},
        "link_bytes_per_s": None if streamed is None or not cuda else streamed.link_bytes_per_s(COPIES),
    }
    for line in lines:
        said = json.loads(line)
        if said.get("forget_peak") and cuda:
            torch.cuda.reset_peak_memory_stats()
        shaped = msgspec.structs.replace(strategy, seq_len=said["tokens"])
        torch.manual_seed(said["tokens"])
        batch = random_batch(shaped, vocabulary=vocabulary_of(asked.config, base_of(model)), device=asked.device)
        fetched = 0 if streamed is None else streamed.fetched_bytes
        if cuda:
            torch.cuda.synchronize()
        begun = time.perf_counter()
        result = step(model, batch, optimizer, settings)
        queued_s = time.perf_counter() - begun
        loss = float(result.loss)
        yield {
            "step_s": time.perf_counter() - begun,
            "queued_s": queued_s,
            "tokens": sum(micro.num_tokens for micro in batch),
            "loss": loss,
            "grad_norm": float(result.grad_norm),
            "fetched_bytes": 0 if streamed is None else streamed.fetched_bytes - fetched,
            "peak_bytes": torch.cuda.max_memory_allocated() if cuda else None,
            "reserved_peak_bytes": torch.cuda.max_memory_reserved() if cuda else None,
        }


def _rss_bytes() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


if __name__ == "__main__":
    sys.exit(main())
