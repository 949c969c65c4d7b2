"""The closed form against the trace: families × ways to train × batches, every case by both, differences by where they lie.

    python -m benchmarks.trace_against_closed [--layers 4] [--every 1] [--processes 2] [--rows FILE] [--minutes 30]
        [--write]

Models are cut to a few layers: a step repeats them, and both estimators know it. Allocated peak; positive errors are
bytes that the closed form books too much.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from benchmarks.machine import describe_machine
from catalogs.bases.architectures import Architecture
from catalogs.bases.models import resolve_model
from planner.estimators.memory import estimate_vram
from planner.estimators.trace import trace_vram
from planner.methods import METHODS
from planner.methods.linears import CONV1D
from planner.refusals import CaseRefused
from planner.units import GIB
from remote.contract import Strategy

RESULT = Path(__file__).parent / "results" / "trace_against_closed.md"

FAMILIES = (
    "llama-3.2-1b",
    "llama-2-7b",
    "mistral-7b",
    "qwen2.5-7b",
    "qwen3-8b",
    "gemma-2-9b",
    "gemma-3-1b",
    "phi-3-mini",
    "granite-3.1-8b",
    "olmo-2-7b",
    "smollm2-1.7b",
    "smollm3-3b",
    "gpt2",
    "pythia-1.4b",
    "opt-1.3b",
    "mixtral-8x7b",
    "qwen3-30b-a3b",
    "gemma-3-270m",  # longer than its window
    "stablelm-2-1.6b",
    "phi-2",
    "falcon-7b",
    "falcon-11b",
    "bloom-560m",
    "mpt-7b",
    "opt-350m",
    "qwen1.5-moe-a2.7b",
    "gpt-oss-20b",
    "deepseek-v3",
    "llama-4-scout",
    "t5-base",
    "flan-t5-large",
    "granite-4.0-h-tiny",
    "phi-3.5-moe",
)
LAYER_KEYS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers")

LORA: dict[str, Any] = {"method": "lora", "rank": 16}
QLORA = LORA | {"quant": "nf4", "double_quant": True}
FULL: dict[str, Any] = {"method": "full", "autocast": "none"}
WAYS: dict[str, dict[str, Any]] = {
    "lora": LORA,
    "lora, no checkpointing": LORA | {"gradient_checkpointing": "off"},
    "lora, re-entrant": LORA | {"gradient_checkpointing": "reentrant"},
    "lora, padded": LORA | {"padded": True},
    "lora, padded, no checkpointing": LORA | {"padded": True, "gradient_checkpointing": "off"},
    "lora, eager attention": LORA | {"attention": "eager"},
    "lora, dropout": LORA | {"dropout": 0.05, "gradient_checkpointing": "off"},
    "lora, no autocast": LORA | {"autocast": "none"},
    "lora, A at rest, no checkpointing": LORA | {"optimizer": "lora_fa", "gradient_checkpointing": "off"},
    "lora, fp32 base": LORA | {"param_dtype": "float32", "autocast": "none"},
    "lora, bf16 adapter": LORA | {"adapter_dtype": "bfloat16"},
    "lora, accumulation, foreach": LORA | {"gradient_accumulation_steps": 4, "optimizer": "adamw_torch"},
    "qlora, full upcast": QLORA | {"kbit_upcast": "full"},
    "qlora, norms upcast": QLORA | {"kbit_upcast": "norms"},
    "qlora, no upcast": QLORA | {"kbit_upcast": "none"},
    "qlora, no checkpointing": QLORA | {"kbit_upcast": "none", "gradient_checkpointing": "off"},
    "int8": LORA | {"quant": "int8", "kbit_upcast": "full"},
    "int8, re-entrant": LORA | {"quant": "int8", "kbit_upcast": "none", "gradient_checkpointing": "reentrant"},
    "full": FULL,
    "full, no checkpointing": FULL | {"gradient_checkpointing": "off"},
    "full, foreach": FULL | {"optimizer": "adamw_torch"},
    "full, 8-bit states, accumulation": FULL | {"optimizer": "adamw_8bit", "gradient_accumulation_steps": 2},
}
# What other methods hang on linears, on families of three kinds: gated with and without biases, and GPT-2's.
HUNG = ("dora", "loha", "lokr", "fourierft", "oft", "boft", "vera", "ia3", "adalora")
HUNG_FAMILIES = ("llama-2-7b", "qwen2.5-7b", "gpt2")
HUNG_WAYS: dict[str, dict[str, Any]] = {
    "": {},
    ", no checkpointing": {"gradient_checkpointing": "off"},
    ", no autocast": {"autocast": "none"},
    ", no autocast, no checkpointing": {"autocast": "none", "gradient_checkpointing": "off"},
    ", nf4": {"quant": "nf4", "double_quant": True},
    ", nf4, no checkpointing": {"quant": "nf4", "double_quant": True, "gradient_checkpointing": "off"},
}
TOKENS: dict[str, Any] = {"num_virtual_tokens": 20}
PLAIN: dict[str, Any] = {"gradient_checkpointing": "off"}
BESIDE_LINEARS: dict[str, dict[str, Any]] = {  # methods that hang nothing on linears
    "prompt": {"method": "prompt_tuning"} | TOKENS,
    "prompt, no checkpointing, padded": {"method": "prompt_tuning", "padded": True} | TOKENS | PLAIN,
    "p-tuning": {"method": "p_tuning"} | TOKENS,
    "prefix": {"method": "prefix_tuning"} | TOKENS | PLAIN,
    "prefix, projected, nf4": {"method": "prefix_tuning", "quant": "nf4", "method_options": {"prefix_projection": True}}
    | TOKENS
    | PLAIN,
    "lora and prompt": {"method": "lora_prompt", "rank": 16, "autocast": "none"} | TOKENS | PLAIN,
    "bottleneck": {"method": "bottleneck", "rank": 64},
    "bottleneck, attention, no checkpointing": {
        "method": "bottleneck",
        "rank": 64,
        "method_options": {"after": ["attention"], "non_linearity": "gelu"},
    }
    | PLAIN,
    "norms": {"method": "ln_tuning"},
    "norms, nf4, no checkpointing": {"method": "ln_tuning", "quant": "nf4", "kbit_upcast": "full"} | PLAIN,
    "biases, no checkpointing": {"method": "bitfit", "autocast": "none"} | PLAIN,
    "top block": {"method": "freeze", "trainable_layers": 1},
    "top block, no checkpointing": {"method": "freeze", "trainable_layers": 1} | PLAIN,
}
HAVE_BIASES = frozenset({"qwen2", "gpt2", "gpt_neox", "opt"})

STRIDE = 23  # coprime to the number of ways and of batches: what a run has traced when it is cut short is of every kind

SHAPES = ((4, 1024), (1, 2048))  # sequences, tokens


class Point(NamedTuple):
    """One case of the grid."""

    family: str
    way: str
    config: dict[str, Any]
    strategy: Strategy

    @property
    def shape(self) -> str:
        return f"{self.strategy.micro_batch_size} × {self.strategy.seq_len}"

    @property
    def key(self) -> tuple[str, str, str]:
        return self.family, self.way, self.shape


class Seen(msgspec.Struct, frozen=True):
    """What a trace says of a point. Bytes; `refused`: its sentence where it has none."""

    family: str
    way: str
    shape: str
    traced: int = 0
    instant: str = ""
    seconds: float = 0.0
    refused: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        return self.family, self.way, self.shape


class Row(NamedTuple):
    """What both say of it. Bytes; `refused`: the sentence of whoever refused."""

    family: str
    way: str
    shape: str
    traced: int
    closed: int
    instants: str
    seconds: float
    refused: str

    @property
    def error(self) -> float:
        """(closed − traced) / traced."""
        return self.closed / self.traced - 1


def grid(layers: int, ways: Mapping[str, dict[str, Any]] = WAYS) -> Iterator[Point]:
    """Every case, in a fixed order."""
    for family in FAMILIES:
        config = cut(resolve_model(family, base=None).config, layers)
        architecture = resolve_model(config, base=None)
        unfused = architecture.attention_softcap or not architecture.fused_attention
        own: dict[str, Any] = {"attention": "eager"} if unfused else {}
        attention = attention_of(architecture)
        own |= {"target_modules": attention} if architecture.num_experts and attention else {}
        for way, fields in ways.items():
            if architecture.experts == "every" and "quant" in fields:
                continue  # refused by the closed form, whose text says why
            if fields["method"] == "bitfit" and config["model_type"] not in HAVE_BIASES:
                continue
            for size, length in SHAPES:
                positions = _positions(config) - fields.get("num_virtual_tokens", 0)
                said = fields | own | {"micro_batch_size": size, "seq_len": min(length, positions)}
                yield Point(family, way, config, msgspec.convert(said, Strategy))


def hung_grid(layers: int) -> Iterator[Point]:
    """The methods beside LoRA that hang on linears, with peft's own ranks and blocks; what peft can't hang is left out."""
    for family in HUNG_FAMILIES:
        config = cut(resolve_model(family, base=None).config, layers)
        for method in HUNG:
            adapter = METHODS[method].adapter
            if adapter is None or (config["model_type"] in CONV1D and not adapter.conv1d):
                continue
            for way, fields in HUNG_WAYS.items():
                if fields.get("quant") and (config["model_type"] in CONV1D or not adapter.four_bit):
                    continue
                said = {"method": method, "rank": METHODS[method].default_rank, "micro_batch_size": 4, "seq_len": 512}
                yield Point(family, method + way, config, msgspec.convert(said | fields, Strategy))


def attention_of(architecture: Architecture) -> list[str]:
    """The linears of attention alone: adapters on experts have no closed form."""
    names = (linear.name for linear, _ in architecture.placed_linears)
    return sorted({name.rpartition(".")[2] for name in names if name.startswith("self_attn")})


def cut(config: dict[str, Any], layers: int) -> dict[str, Any]:
    """The same model with fewer layers."""
    changed = {key: layers for key in LAYER_KEYS if key in config}
    if "first_k_dense_replace" in config:
        changed["first_k_dense_replace"] = 1  # one dense block, the others with experts
    if "layer_types" in config:
        changed["layer_types"] = config["layer_types"][:layers]
    return config | changed


def _positions(config: dict[str, Any]) -> int:
    return int(config.get("max_position_embeddings") or config.get("n_positions") or 1024)


def compare(point: Point) -> Row:
    """Both estimators on one case."""
    return _beside(point, _seen(point))


def _seen(point: Point) -> Seen:
    started_s = time.perf_counter()
    try:
        traced = trace_vram(point.config, point.strategy)
    except CaseRefused as refusal:
        return Seen(point.family, point.way, point.shape, refused=refusal.message)
    seconds = time.perf_counter() - started_s
    return Seen(point.family, point.way, point.shape, traced.allocated_peak_bytes, traced.peak_instant, seconds)


def _beside(point: Point, seen: Seen) -> Row:
    """The closed form beside a trace, at once: it is as it stands today, whenever the trace was made."""
    if seen.refused:
        return Row(*seen.key, 1, 1, "", 0.0, seen.refused)
    try:
        closed = estimate_vram(resolve_model(point.config, base=None), point.strategy)
    except CaseRefused as refusal:
        return Row(*seen.key, 1, 1, "", 0.0, refusal.message)
    instants = f"{seen.instant} / {closed.peak_instant}"
    return Row(*seen.key, seen.traced, closed.allocated_peak_bytes, instants, seen.seconds, "")


def compare_all(points: list[Point], processes: int, kept: Path | None, until_s: float = math.inf) -> list[Row]:
    """Rows in the order of the points, of those that are traced by then. Traces that `kept` holds are not made again, and new
    ones are added to it.
    """
    lines = [] if kept is None or not kept.exists() else [line for line in kept.open("rb") if line.endswith(b"\n")]
    known = {seen.key: seen for seen in (msgspec.json.decode(line, type=Seen) for line in lines)}
    to_do = [point for start in range(STRIDE) for point in points[start::STRIDE] if point.key not in known]
    made = map(_seen, to_do) if processes == 1 else _by_workers(to_do, processes)
    while time.monotonic() < until_s and (seen := next(made, None)) is not None:
        known[seen.key] = seen
        _note(seen, kept)
    return [_beside(point, known[point.key]) for point in points if point.key in known]


def _by_workers(points: list[Point], processes: int) -> Iterator[Seen]:
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_seen, points, chunksize=4)


def _note(seen: Seen, kept: Path | None) -> None:
    if kept is not None:
        with kept.open("ab") as lines:
            lines.write(msgspec.json.encode(seen) + b"\n")


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of the sorted values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _table(rows: list[Row], by: str) -> list[str]:
    lines = [f"| {by} | cases | median abs. error | 95th percentile | worst |", "| --- | --- | --- | --- | --- |"]
    for name in dict.fromkeys(getattr(row, by) for row in rows):
        group = [row for row in rows if getattr(row, by) == name]
        errors = [abs(row.error) for row in group]
        worst = max(group, key=lambda row: abs(row.error)).error
        lines.append(
            f"| {name} | {len(group)} | {statistics.median(errors):.2%} | {percentile(errors, 0.95):.2%} | {worst:+.2%} |"
        )
    return lines


def report(rows: list[Row], layers: int, num_asked: int) -> str:
    """The result file."""
    answered, refused = [row for row in rows if not row.refused], [row for row in rows if row.refused]
    errors = [abs(row.error) for row in answered]
    worst = sorted(answered, key=lambda row: -abs(row.error))[:20]
    summary = (
        f"{len(rows)} of {num_asked} cases ({len(FAMILIES)} families, {len(WAYS)} ways, {len(SHAPES)} batches, {layers} layers "
        f"each, and {len(BESIDE_LINEARS)} ways that hang nothing on linears; of {len(HUNG)} further methods "
        f"{len(HUNG_FAMILIES)} families and {len(HUNG_WAYS)} ways), "
        f"{len(refused)} refused. Allocated peak: median absolute error **{statistics.median(errors):.2%}**, "
        f"95th percentile **{percentile(errors, 0.95):.2%}**, worst {max(errors):.2%}; "
        f"{statistics.median(row.seconds for row in answered):.2f} s a trace (median)."
    )
    return "\n".join(
        [
            "# Closed form against trace",
            "",
            describe_machine(),
            "",
            summary,
            "",
            *_table(answered, "family"),
            "",
            *_table(answered, "way"),
            "",
            "The twenty widest apart (instants: trace / closed form):",
            "",
            "| family | way | batch | trace GiB | closed GiB | error | instants |",
            "| --- | --- | --- | --- | --- | --- | --- |",
            *(
                f"| {row.family} | {row.way} | {row.shape} | {row.traced / GIB:.3f} | {row.closed / GIB:.3f} "
                f"| {row.error:+.2%} | {row.instants} |"
                for row in worst
            ),
            "",
            *(f"CaseRefused: {row.family}, {row.way}, {row.shape}: {row.refused}." for row in refused),
            "",
            "By `python -m benchmarks.trace_against_closed --rows FILE --write`, which goes on where it was stopped.",
            "",
        ]
    )


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--every", type=int, default=1, help="take every n-th case")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rows", type=Path, help="file of finished traces, to go on from")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop then, and say how many cases are there")
    said = parser.parse_args()
    points = [*grid(said.layers, WAYS | BESIDE_LINEARS), *hung_grid(said.layers)]
    asked = points[:: said.every]
    rows = compare_all(asked, said.processes, said.rows, time.monotonic() + 60 * said.minutes)
    text = report(rows, said.layers, len(asked))
    print(text)
    if said.write:
        RESULT.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
