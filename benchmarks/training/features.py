"""Each feature of the trainer's step against the plain step, on one device: loss, gradients, what is read, what is compiled.

    python -m benchmarks.training.features --out features.md                  # on a machine with one NVIDIA GPU
    python -m benchmarks.training.features --device cpu --tiny                # rehearsed, on a processor

One base of random weights a row, stepped twice by the plain way and by the other from the same start. On a card nothing may be
read from it within a step (`torch.cuda.set_sync_debug_mode`), which a control that looks for packed rows must show. Ends with 1
where a row is not as it must be.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from benchmarks.machine import describe_machine
from benchmarks.training.built import built
from catalogs.bases.models import resolve_model
from remote.contract import Loop, Strategy
from remote.ends import first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SEED: Final = 11
TINY: Final[dict[str, Any]] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 512,
}
CUT: Final[dict[str, Any]] = {"num_hidden_layers": 4}  # blocks of a real size, so that a row takes seconds
BASE: Final = Strategy(method="lora", rank=16, micro_batch_size=2, gradient_accumulation_steps=2, seq_len=512, loss="chunked")
NF4: Final[dict[str, Any]] = {"quant": "nf4", "double_quant": True}
AS_THEY_COME: Final[dict[str, Any]] = {"method_options": {"cast_input_dtype": False}}
COMPILED: Final[dict[str, Any]] = {"kernels": "compiled"}


class Row(NamedTuple):
    """What is compared: the plain way, what is otherwise, and how far a gradient may be off, as a share of its length."""

    plain: dict[str, Any]
    otherwise: dict[str, Any]
    tolerance: float
    recorded: bool = False  # by CUDA graphs, on a card


ROWS: Final[dict[str, Row]] = {
    "itself": Row({}, {}, 1e-3),  # assumed: kernels that add up in another order each time
    "inputs as they come": Row({}, AS_THEY_COME, 1e-3),
    "compiled": Row({}, COMPILED, 0.03),  # assumed: 16-bit roundings that a fused kernel leaves out
    "compiled, kept": Row({"gradient_checkpointing": "off"}, COMPILED, 0.03),
    "compiled over nf4": Row(NF4, COMPILED, 0.03),
    "compiled, everything trains": Row({"method": "full", "rank": None}, COMPILED, 0.03),
    "compiled, inputs as they come": Row({}, COMPILED | AS_THEY_COME, 0.03),
    "fused": Row({}, {"kernels": "fused"}, 0.03),
    "recorded": Row({}, {}, 1e-3, recorded=True),  # the same kernels, out of CUDA graphs
    "recorded, kept": Row({"gradient_checkpointing": "off"}, {}, 1e-3, recorded=True),
    "recorded over nf4": Row(NF4, {}, 1e-3, recorded=True),
    "recorded, inputs as they come": Row({}, AS_THEY_COME, 1e-3, recorded=True),
    "loss liger": Row({}, {"loss": "liger"}, 0.01),
    "loss hf": Row({}, {"loss": "hf"}, 0.01),
}


class Stepped(NamedTuple):
    """What one way gave."""

    loss: float
    gradients: dict[str, Any]  # by name
    step_s: list[float]  # of the first step, which compiles, and of the second
    peak_bytes: int
    num_reads: int  # of the device within the second step; on a processor nobody counts
    num_recorded: int = 0  # shapes of a micro-batch that CUDA graphs play


def stepped(config: dict[str, Any], said: Strategy, device: str, *, recorded: bool = False) -> Stepped:
    """Two steps at a rate of 0, so that both have the same gradients."""
    import torch

    from remote.kernels import unfuse
    from remote.kernels.graphs import RECORDERS, Graphs
    from remote.measure.random_weights import random_batch
    from remote.step import settings_of, step
    from remote.training.optimizers import build_optimizer, set_learning_rate

    model = built(config, said, device, seed=SEED)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    graphs = Graphs(RECORDERS[device](), model, print) if recorded and device in RECORDERS else None
    optimizer, settings = build_optimizer(said, model, Loop()), settings_of(said, device, 1e9)
    set_learning_rate(optimizer, 0.0)
    gradients: dict[str, Any] = {}

    def keep(*_: Any) -> None:
        gradients.update({n: p.grad.detach().float().cpu() for n, p in model.named_parameters() if p.grad is not None})

    optimizer.register_step_pre_hook(keep)
    seconds: list[float] = []
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(2):
        torch.manual_seed(SEED)
        batch = random_batch(said, vocabulary=int(config["vocab_size"]), device=device)
        started = time.perf_counter()
        with reads(device) as seen:
            result = step(model, batch, optimizer, settings, graphs=graphs)
        loss = float(result.loss)
        seconds.append(time.perf_counter() - started)
    unfuse(model)
    peak_bytes = int(torch.cuda.max_memory_allocated()) if device == "cuda" else 0
    return Stepped(loss, gradients, seconds, peak_bytes, len(seen), 0 if graphs is None else graphs.num_recorded)


@contextmanager
def reads(device: str) -> Iterator[list[Any]]:
    """Warnings of torch's that the host waits for the card."""
    if device != "cuda":
        yield []
        return
    import torch

    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        seen: list[Any] = []
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield seen
        finally:
            torch.cuda.set_sync_debug_mode("default")
            seen += [each for each in heard if "synchronizing CUDA operation" in str(each.message)]


@contextmanager
def looking() -> Iterator[None]:
    """The control: transformers looks for packed rows, as it does by itself."""
    import remote.step

    names = vars(remote.step)
    ours = names["rows_apart"]
    names["rows_apart"] = lambda **_: nullcontext()
    try:
        yield
    finally:
        names["rows_apart"] = ours


def off_by(gradients: dict[str, Any], others: dict[str, Any]) -> float:
    """How far the farthest tensor's gradient is off, as a share of its length."""
    if gradients.keys() != others.keys():
        return float("inf")
    return max(float((one - others[name]).norm() / one.norm().clamp(min=1e-12)) for name, one in gradients.items())


def config_of(*, tiny: bool) -> dict[str, Any]:
    """A Llama of a few blocks."""
    base = dict(resolve_model("llama-3.2-1b", base=None).config)
    return base | (TINY if tiny else CUT)


def table(device: str, *, tiny: bool, tell: Callable[[str], object] = lambda _text: None) -> tuple[str, bool]:
    """Markdown, and whether every row is as it must be. `tell` hears the table as far as it is, after each row."""
    config = config_of(tiny=tiny)
    base = msgspec.to_builtins(msgspec.structs.replace(BASE, seq_len=32) if tiny else BASE)
    lines, whole = head_of(device), True
    for name, row in ROWS.items():
        line, good = _compared(name, row, config, base, device)
        lines.append(line)
        whole = whole and good
        tell("\n".join([*lines, ""]))
    if device == "cuda":
        with looking():
            control = stepped(config, msgspec.convert(base, Strategy), device)
        whole = whole and control.num_reads > 0
        lines.append(f"| control: looking for packed rows | | | {control.num_reads}, must be some | | | | |")
    text = "\n".join([*lines, ""])
    tell(text)
    return text, whole


def head_of(device: str) -> list[str]:
    """What stands above the rows."""
    return [
        f"# Features of the step against the plain one: {device}",
        "",
        describe_machine(),
        "",
        "| feature | loss off by | farthest gradient off by | reads in a step | first step, s | second step, s | peak, MiB | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]


def _compared(name: str, row: Row, config: dict[str, Any], base: dict[str, Any], device: str) -> tuple[str, bool]:
    """The row's line, and whether it is as it must be. What a library refuses is told, and the others go on."""
    try:
        plain = stepped(config, msgspec.convert(base | row.plain, Strategy), device)
        found = stepped(config, msgspec.convert(base | row.plain | row.otherwise, Strategy), device, recorded=row.recorded)
    except Exception as error:  # noqa: BLE001 - minutes of a card are few, and each row is worth having
        return f"| {name} | {type(error).__name__}: {first_line(error)} | | | | | | **no** |", False
    far = off_by(plain.gradients, found.gradients)
    played = bool(found.num_recorded) == (row.recorded and device == "cuda")
    good = far <= row.tolerance and found.num_reads == 0 and played
    peaks = f"{plain.peak_bytes / 2**20:,.0f} → {found.peak_bytes / 2**20:,.0f}" if device == "cuda" else ""
    line = (
        f"| {name} | {abs(found.loss - plain.loss):.2e} | {far:.2e} of {row.tolerance:g} | {found.num_reads} | "
        f"{found.step_s[0]:.1f} | {plain.step_s[1]:.3f} → {found.step_s[1]:.3f} | {peaks} | {'' if good else '**no**'} |"
    )
    return line, good


def _keep(out: Path | None, text: str) -> None:
    if out is not None:
        out.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true")
    asked = parser.parse_args()
    text, whole = table(asked.device, tiny=asked.tiny, tell=partial(_keep, asked.out))
    print(text)
    sys.exit(0 if whole else 1)


if __name__ == "__main__":
    main()
