"""Layer streaming on a card: are the gradients equal, does a 32B model train within 16 GB, and what does it cost?

    python -m benchmarks.streaming.campaign --out lines.jsonl                        # on a machine with one NVIDIA GPU; minutes
    python -m benchmarks.streaming.campaign --out dry.jsonl --device cpu --tiny      # a rehearsal, tiny: no figure of CUDA
    python -m benchmarks.streaming.campaign --out cpu.jsonl --device cpu --only gradients      # real block sizes, on a CPU
    python -m benchmarks.streaming.campaign --table lines.jsonl                      # the results as Markdown

Weights are random codes, made block by block: no 16-bit copy of a model ever exists, nothing is downloaded. Resident and
streamed models are processes of their own, the latter under a cap of what torch may allocate, and step in turns. A line is
written as soon as it is known; what stands in the file is not run again, and what no longer fits into --limit-s is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from benchmarks.machine import RESULTS
from benchmarks.streaming.gradients import by, gradient_rows
from benchmarks.streaming.table import table
from benchmarks.streaming.worker import Built
from catalogs.bases.models import resolve_model
from catalogs.catalog import CatalogError, read_catalog
from planner.estimators.host import estimate_host
from planner.estimators.memory import estimate_vram
from planner.estimators.time.duration import pace_of
from planner.strategy.stack import PINNED_STACK
from remote.contract import Strategy

QLORA: Final = Strategy(method="lora", rank=16, quant="nf4", double_quant=True, micro_batch_size=1)
GRADIENT_MODELS: Final = ("llama-3.1-8b", "qwen2.5-32b")
GRADIENT_TOKENS: Final = {"cuda": 256, "cpu": 8}
KINDS: Final[Mapping[str, dict[str, Any]]] = {  # of frozen weights; what they are on top of QLoRA
    "nf4, double": {},
    "nf4": {"double_quant": False},
    "int8": {"quant": "int8", "double_quant": False},
    "16 bits": {"quant": "none", "double_quant": False},
}
TRAINED: Final = "qwen2.5-32b"
TOKENS: Final = (2048, 512, 4096)  # of a micro-step; what matters most first
CAP_BYTES: Final = 16_000_000_000  # a card of 16 GB: of its 16 GiB a tenth is the driver's, the context's and the desktop's
WARM_UP, STEPS = 2, 10
LARGE: Final[dict[str, Any]] = {  # 100 billion parameters in a common shape
    "model_type": "llama", "hidden_size": 12288, "num_hidden_layers": 64, "num_attention_heads": 96, "num_key_value_heads": 8,
    "intermediate_size": 33792, "vocab_size": 32000, "max_position_embeddings": 8192, "tie_word_embeddings": False,
}  # fmt: skip
LARGE_CAP_BYTES, LARGE_TOKENS, LARGE_STEPS = 24_000_000_000, 1024, 5
REPEATABLE: Final = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}  # what cuBLAS needs to sum in one order; for gradients alone
TINY: Final = {
    "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128,
    "vocab_size": 256, "max_position_embeddings": 512,
}  # fmt: skip
TINY_STEPS: Final = 1
TINY_TOKENS: Final = {2048: 32, 512: 16, 4096: 48, 1024: 24}
SPECIAL: Final = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
INTRODUCTION: Final = """# Layer streaming on one {card}

`python -m benchmarks.streaming.campaign`: random weights, LoRA of rank 16 on all linears of an nf4 base with double
quantization, one row a micro-step, loss in chunks (`liger`). The streamed arm trains under a cap of 16 GB (100b: 24 GB) on
what torch may allocate, the resident one without; both are processes of their own on one card and step in turns, now the one
first and now the other. Median, least and most of the steps after the warm-up. "Planned" is the closed form's figure; the
peak is what torch had allocated."""
SPARE: Final = 0.97  # of a cap, what is planned with; assumed, for what an allocator loses between blocks
FEWER: Final = (0, 4, 10)  # blocks that stay, where those of the plan leave too little under the cap
RESERVED_S: Final = 5.0  # of the time, for what comes after the steps; assumed
DIED: Final = "the process that trains has died; what it said stands above"
NEEDS_S: Final = {"gradients": 15.0, "trained": 40.0, "large": 50.0}  # a stage that has less left is not begun; assumed


class Campaign(NamedTuple):
    """Where and how far."""

    device: str
    tiny: bool
    ends: float  # by the monotonic clock
    only: tuple[str, ...]


class Stage(NamedTuple):
    """One part of the campaign: what it is called in the file, and what makes its lines."""

    kind: str
    name: str
    lines: Callable[[], Iterator[dict[str, Any]]]


def stages(campaign: Campaign) -> Iterator[Stage]:
    """All of them, in their order."""
    device, tiny = campaign.device, campaign.tiny
    for model in GRADIENT_MODELS:
        for kind, said in KINDS.items():
            if model == GRADIENT_MODELS[-1] and kind != next(iter(KINDS)):
                continue  # of the larger blocks what is trained below
            config = shaped({**resolve_model(model).config, "num_hidden_layers": 4, "vocab_size": 1024}, tiny=tiny)
            strategy = msgspec.structs.replace(
                on_device(QLORA, device), seq_len=GRADIENT_TOKENS[device], gradient_accumulation_steps=2, **said
            )
            yield Stage("gradients", f"{model}, {kind}", lambda c=config, s=strategy: _gradients(c, s, device))  # type: ignore[misc]
    yield Stage("trained", TRAINED, lambda: _trained(campaign))
    yield Stage("large", "100b", lambda: _large(campaign))


def on_device(strategy: Strategy, device: str) -> Strategy:
    """A CPU without 16-bit arithmetic takes minutes for what it does in fp32 within seconds."""
    if device == "cuda":
        return strategy
    return msgspec.structs.replace(strategy, param_dtype="float32", autocast="none", optimizer="adamw_torch")


def shaped(config: Mapping[str, Any], *, tiny: bool) -> dict[str, Any]:
    """A configuration as it is built."""
    return {**config, **(TINY if tiny else {}), **SPECIAL}


# ── gradients ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _gradients(config: Mapping[str, Any], strategy: Strategy, device: str) -> Iterator[dict[str, Any]]:
    import torch

    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    try:
        yield from gradient_rows(config, strategy, device)
    finally:
        torch.use_deterministic_algorithms(mode=False)
        if device == "cuda":
            torch.cuda.empty_cache()


# ── training ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Worker:
    """Guards a process that holds one model and steps when it is told to."""

    def __init__(self, built: Built) -> None:
        command = [sys.executable, "-m", "benchmarks.streaming.worker"]
        usual = {name: value for name, value in os.environ.items() if name not in REPEATABLE}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=usual)
        self._say(msgspec.json.encode(built).decode())
        self.built: dict[str, Any] = {}

    def wait(self) -> dict[str, Any]:
        """Until the model stands."""
        self.built = self._hear()
        return self.built

    def step(self, tokens: int, *, forget_peak: bool = False) -> dict[str, Any]:
        """One optimizer step on a row of so many random tokens."""
        self._say(json.dumps({"tokens": tokens, "forget_peak": forget_peak}))
        return self._hear()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise RuntimeError(DIED) from error

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(DIED)
        heard: dict[str, Any] = json.loads(line)
        return heard


def _trained(campaign: Campaign) -> Iterator[dict[str, Any]]:
    """Resident without a cap and streamed under one, step by step in turns, for each length."""
    config = shaped(resolve_model(TRAINED).config, tiny=campaign.tiny)
    usual = msgspec.structs.replace(on_device(QLORA, campaign.device), loss="liger")  # as a plan for a small card says
    resident = Worker(Built(config=config, strategy=usual, device=campaign.device))
    try:
        yield {"arm": "resident", **resident.wait()}
        for length in TOKENS:
            if time.monotonic() + NEEDS_S["trained"] > campaign.ends:
                yield {"arm": "streamed", "tokens": length, "left_out": "too little time was left"}
                continue
            tokens = TINY_TOKENS[length] if campaign.tiny else length
            strategy = streamed_within(config, msgspec.structs.replace(usual, seq_len=tokens), CAP_BYTES)
            for fewer in FEWER:
                tried = with_fewer(strategy, fewer)
                try:
                    yield from _in_turns(campaign, config, resident, tried, tokens)
                    break
                except RuntimeError as error:  # its process is gone: as a rule for want of memory
                    yield {"arm": "streamed", "tokens": tokens, "without": fewer, "died": str(error)}
    finally:
        resident.close()


def _in_turns(
    campaign: Campaign, config: dict[str, Any], resident: Worker, strategy: Strategy, tokens: int
) -> Iterator[dict[str, Any]]:
    streamed = Worker(Built(config=config, strategy=strategy, device=campaign.device, cap_bytes=CAP_BYTES))
    try:
        streamed.wait()
        steps: dict[str, list[dict[str, Any]]] = {"resident": [], "streamed": []}
        for number in range(WARM_UP + (TINY_STEPS if campaign.tiny else STEPS)):
            if number >= WARM_UP + 3 and time.monotonic() + RESERVED_S > campaign.ends:
                break
            order = list(steps) if number % 2 else list(reversed(steps))
            for arm in order:
                worker = resident if arm == "resident" else streamed
                steps[arm].append(worker.step(tokens, forget_peak=number == WARM_UP))
        for arm, said in (
            ("resident", msgspec.structs.replace(strategy, offload="none", streaming=None)),
            ("streamed", strategy),
        ):
            worker = resident if arm == "resident" else streamed
            yield {
                "arm": arm,
                "tokens": tokens,
                "steps": steps[arm],
                "cap_bytes": CAP_BYTES if arm == "streamed" else None,
                "strategy": msgspec.to_builtins(said),
                "built": worker.built,
                "planned": planned(config, said, worker.built["device_name"], tokens),
            }
    finally:
        streamed.close()


def _large(campaign: Campaign) -> Iterator[dict[str, Any]]:
    config = shaped(LARGE, tiny=campaign.tiny)
    tokens = TINY_TOKENS[LARGE_TOKENS] if campaign.tiny else LARGE_TOKENS
    usual = msgspec.structs.replace(on_device(QLORA, campaign.device), loss="liger", seq_len=tokens)
    strategy = streamed_within(config, usual, LARGE_CAP_BYTES)
    worker = Worker(Built(config=config, strategy=strategy, device=campaign.device, cap_bytes=LARGE_CAP_BYTES))
    try:
        built = worker.wait()
        steps = [worker.step(tokens, forget_peak=number == WARM_UP) for number in range(LARGE_STEPS)]
        yield {
            "arm": "streamed",
            "tokens": tokens,
            "steps": steps,
            "cap_bytes": LARGE_CAP_BYTES,
            "strategy": msgspec.to_builtins(strategy),
            "built": built,
            "planned": planned(config, strategy, built["device_name"], tokens),
        }
    finally:
        worker.close()


# ── the plan ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def streamed_within(config: Mapping[str, Any], strategy: Strategy, cap_bytes: int) -> Strategy:
    """Streamed by two slots, with as many blocks resident as the plan has room for under the cap."""
    architecture = resolve_model(config)

    def with_resident(number: int) -> Strategy:
        return msgspec.structs.replace(strategy, offload="stream", streaming=by(2, number))

    def fits(number: int) -> bool:
        return estimate_vram(architecture, with_resident(number)).reserved_peak_bytes <= SPARE * cap_bytes

    most = max((number for number in range(architecture.depth - 2) if fits(number)), default=0)
    return with_resident(most)


def with_fewer(strategy: Strategy, fewer: int) -> Strategy:
    """With so many resident blocks less."""
    assert strategy.streaming is not None
    return msgspec.structs.replace(
        strategy, streaming=by(strategy.streaming.num_slots, max(0, strategy.streaming.num_resident_blocks - fewer))
    )


def planned(config: Mapping[str, Any], strategy: Strategy, device_name: str, tokens: int) -> dict[str, Any]:
    """What the estimators say of it; seconds where the catalog has the card."""
    architecture = resolve_model(config)
    try:
        gpu = read_catalog().gpu(device_name.removeprefix("NVIDIA ")).gpu
    except CatalogError:
        gpu = None
    vram = estimate_vram(architecture, strategy, gpu=gpu)
    host = estimate_host(architecture, strategy, num_gpus=1, on_cpu=False)
    said: dict[str, Any] = {
        "allocated_peak_bytes": vram.allocated_peak_bytes,
        "reserved_peak_bytes": vram.reserved_peak_bytes,
        "components": vram.components,
        "host_blocks_bytes": host.ram_components.get("weights", 0),
    }
    if gpu is not None:
        pace = pace_of(
            architecture,
            strategy,
            gpu=gpu,
            task="causal_lm",
            stack=PINNED_STACK,
            mean_seq_len=float(tokens),
            interconnect="pcie",
            cores=None,
        )
        said |= {"step_s": [pace.step_s.p10, pace.step_s.p50, pace.step_s.p90], "bound": pace.bound}
        said["terms"] = msgspec.to_builtins(pace.step)
    return said


# ── the file ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def run(campaign: Campaign, out: Path) -> bool:
    """Every stage that the file does not hold whole. Returns whether all of them were right."""
    done = {(line["kind"], line["name"]) for line in read(out) if line.get("end") == "whole"}
    right = True
    with out.open("a", encoding="utf-8") as file:
        for stage in stages(campaign):
            if (stage.kind, stage.name) in done or (campaign.only and stage.kind not in campaign.only):
                continue
            for line in _lines(stage, campaign):
                right = right and line.get("as_it_must_be", True) and "failed" not in line
                figures = "CUDA" if campaign.device == "cuda" else "CPU"
                said = json.dumps({"kind": stage.kind, "name": stage.name, "figures": figures, "tiny": campaign.tiny, **line})
                file.write(said + "\n")
                file.flush()
                print(said[:300], flush=True)
    return right


def _lines(stage: Stage, campaign: Campaign) -> Iterator[dict[str, Any]]:
    if time.monotonic() + NEEDS_S[stage.kind] > campaign.ends:
        yield {"left_out": "too little time was left"}
        return
    started = time.monotonic()
    try:
        yield from stage.lines()
    except Exception as error:  # noqa: BLE001 - the other stages are worth running all the same
        yield {"failed": f"{type(error).__name__}: {error}", "where": traceback.format_exc(limit=-4)}
        return
    yield {"end": "whole", "wall_s": round(time.monotonic() - started, 1)}


def read(file: Path) -> Iterator[dict[str, Any]]:
    """The lines of a campaign; one that was cut off is passed over."""
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def write_results(lines: list[dict[str, Any]]) -> Path:
    """The committed page of a card."""
    card = next(line["built"]["device_name"] for line in lines if "built" in line)
    page = RESULTS / f"streaming_{card.replace(' ', '-')}.md"
    page.write_text(f"{INTRODUCTION.format(card=card)}\n\n{table(lines)}\n", encoding="utf-8")
    return page


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON lines; a stage that stands there whole is not run again")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes: a rehearsal")
    parser.add_argument("--limit-s", type=float, default=540.0, help="no stage begins that would end after these (default 540)")
    parser.add_argument("--only", nargs="*", default=(), choices=tuple(NEEDS_S), help="stages")
    parser.add_argument("--table", type=Path, nargs="+", help="print the results of files instead")
    parser.add_argument("--write", action="store_true", help="with --table: into benchmarks/results/, by the name of the card")
    said = parser.parse_args()
    if said.table is not None:
        lines = [line for file in said.table for line in read(file)]
        if said.write:
            print(write_results(lines))
        else:
            print(table(lines))
        return 0
    if said.out is None:
        parser.error("say --out or --table")
    os.environ.update(REPEATABLE)
    campaign = Campaign(said.device, said.tiny, time.monotonic() + said.limit_s, tuple(said.only))
    return 0 if run(campaign, said.out) else 1


if __name__ == "__main__":
    sys.exit(main())
