"""What Python and torch's dispatch take of a step of a small model: launched one by one, and played.

    python -m benchmarks.training.host_floor [--write]

SmolLM2-135M's depth and modules, so narrow and so short that a processor computes next to nothing: what is left of a step is
what a card's host does before any kernel. Played steps go through the trainer's own `Graphs`, whose recorder is one that does
nothing: what is left is the host's work beside the graphs (batch copied, clipping, optimizer), and no launch. It shows neither
what a launch costs on a card nor what a card does with it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from benchmarks.machine import RESULTS, describe_machine
from benchmarks.training.built import built
from catalogs.bases.models import resolve_model
from remote.contract import Loop, Strategy

RESULT: Final = RESULTS / "host_floor.md"
SEED: Final = 5
NARROW: Final[dict[str, Any]] = {
    "hidden_size": 36, "intermediate_size": 48, "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 4,
    "vocab_size": 64,
}  # fmt: skip
BASE: Final = Strategy(
    method="lora", rank=4, micro_batch_size=1, gradient_accumulation_steps=2, seq_len=8, loss="chunked", param_dtype="float32",
    autocast="none", optimizer="adamw_torch", gradient_checkpointing="off",
)  # fmt: skip
WARM_UP, STEPS = 2, 15
SHOWS: Final = """\
Host's milliseconds of a whole optimizer step of two micro-batches, median (least to most), on a machine with other work beside
it; operations are those that torch dispatched below autograd in one such step. A played step's figure leaves out one launch of
a graph for each micro-batch, which only a card can be asked for: a plan counts 2 µs for each kernel in it, assumed, beside 17
of one that is launched by itself."""


class Arm(NamedTuple):
    """One way to step."""

    changes: dict[str, Any]
    played: bool = False


ARMS: Final[dict[str, Arm]] = {
    "eager": Arm({}),
    "eager, blocks computed again": Arm({"gradient_checkpointing": "non_reentrant"}),
    "played": Arm({}, played=True),
    "played, blocks computed again": Arm({"gradient_checkpointing": "non_reentrant"}, played=True),
}


class Floor(NamedTuple):
    """What the host did in a step."""

    seconds: list[float]
    operations: int


def _nothing(work: Callable[[], Any]) -> tuple[Callable[[], None], Any]:  # noqa: ARG001 - as a recorder is called
    """A recorder whose recordings cost nothing to play. What they would give is that of the first time."""
    import torch

    return lambda: None, torch.zeros(())


def stepper(arm: Arm, depth: int | None = None) -> Callable[[], None]:
    """One optimizer step of the arm, again and again."""
    import torch

    from remote.kernels.graphs import Graphs
    from remote.measure.random_weights import random_batch
    from remote.step import settings_of, step
    from remote.training.optimizers import build_optimizer

    config = dict(resolve_model("smollm2-135m", base=None).config) | NARROW
    config |= {} if depth is None else {"num_hidden_layers": depth}
    strategy = msgspec.convert(msgspec.to_builtins(BASE) | arm.changes, Strategy)
    model = built(config, strategy, "cpu", seed=SEED)
    optimizer, settings = build_optimizer(strategy, model, Loop()), settings_of(strategy, "cpu", 1.0)
    batch = random_batch(strategy, vocabulary=NARROW["vocab_size"], device="cpu")
    graphs = Graphs(_nothing, model, print) if arm.played else None

    def once() -> None:
        step(model, batch, optimizer, settings, graphs=graphs)

    torch.set_num_threads(1)
    return once


def floors(arms: dict[str, Arm], *, steps: int = STEPS, depth: int | None = None) -> dict[str, Floor]:
    """All arms, step by step in turns."""
    once = {name: stepper(arm, depth) for name, arm in arms.items()}
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(WARM_UP + steps):
        for name, step in once.items():
            started = time.perf_counter()
            step()
            if number >= WARM_UP:
                seconds[name].append(time.perf_counter() - started)
    return {name: Floor(seconds[name], dispatched(step)) for name, step in once.items()}


def dispatched(work: Callable[[], None]) -> int:
    """Operations that torch is asked for below autograd."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):  # type: ignore[misc]
        number: int = 0

        def __torch_dispatch__(self, operation: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.number += 1
            return operation(*args, **(kwargs or {}))

    with Count() as seen:
        work()
    number: int = seen.number
    return number


def table(found: dict[str, Floor]) -> Iterator[str]:
    """A row for each arm, beside the eager one."""
    yield "| step | host, ms | beside eager | operations |"
    yield "| --- | --- | --- | --- |"
    eager_s = statistics.median(found["eager"].seconds)
    for name, floor in found.items():
        middle = statistics.median(floor.seconds)
        spread = f"{1e3 * min(floor.seconds):.1f} to {1e3 * max(floor.seconds):.1f}"
        yield f"| {name} | {1e3 * middle:.1f} ({spread}) | {middle / eager_s:.2f} | {floor.operations:,} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", action="store_true", help=f"into {RESULT.name}")
    said = parser.parse_args()
    found = floors(ARMS)
    command = "python -m benchmarks.training.host_floor --write"
    lines = ["# The host's floor of a small model", "", f"`{command}`. {describe_machine()}", "", SHOWS, "", *table(found)]
    text = "\n".join(lines) + "\n"
    if said.write:
        RESULT.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
