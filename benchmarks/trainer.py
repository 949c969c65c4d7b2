"""Tokens a second and peak memory of the trainer's step against other people's loops, on one model, data and device.

    python -m benchmarks.trainer --out runs.jsonl                     # on a machine with one NVIDIA GPU
    python -m benchmarks.trainer --out runs.jsonl --device cpu        # a small shape, on processors; --tiny: a rehearsal
    python -m benchmarks.trainer --table runs.jsonl --write           # benchmarks/results/trainer_DEVICE.md

Paired and interleaved: in each round every contender that is installed builds the same random-weight model with the same
adapter and takes the same number of steps of the same size, in an order that turns by one from round to round and is recorded.
Our own step runs once with each of its features on and once without, by one loss: the rows that begin with "rentune, chunked".
Plain Hugging Face is `transformers.Trainer` over a peft model; TRL is `SFTTrainer` as it stands, where PYTHONPATH has `trl` and
`datasets` (trl 1.16.0, datasets 5.2.0 and pyarrow 26.0.1 were tried). Times are between the begin
and the end of an optimizer step, the device waited for; the first two steps of each are left out.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import importlib.util
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from benchmarks.machine import describe_machine
from benchmarks.training.built import built
from benchmarks.training.features import TINY, looking
from catalogs.bases.models import resolve_model
from remote.contract import Loop, Strategy

RESULTS: Final = Path(__file__).parent / "results"
WARM_UP_STEPS: Final = 2
MINUTES: Final = 4.0
SEED: Final = 11
BASE: Final = Strategy(method="lora", rank=16, micro_batch_size=2, seq_len=2048)
SHAPES: Final[dict[str, dict[str, tuple[dict[str, Any], Strategy]]]] = {  # device -> name -> (configuration, strategy)
    "cuda": {
        "llama-3.2-1b, 2 x 2048": ({"model": "llama-3.2-1b"}, BASE),
        "llama-3.1-8b, 2 x 2048": ({"model": "llama-3.1-8b"}, BASE),
        "llama-3.1-8b nf4, 4 x 512": (
            {"model": "llama-3.1-8b"},
            msgspec.structs.replace(BASE, quant="nf4", double_quant=True, micro_batch_size=4, seq_len=512),
        ),
        "llama-3.2-1b, 2 x 512, 4 times": (  # short and accumulated: what Python and waiting cost shows here
            {"model": "llama-3.2-1b"},
            msgspec.structs.replace(BASE, seq_len=512, gradient_accumulation_steps=4),
        ),
    },
    "cpu": {
        "smollm2-135m cut to 6 blocks, 2 x 256": (
            {"model": "smollm2-135m", "num_hidden_layers": 6},
            msgspec.structs.replace(BASE, seq_len=256, param_dtype="float32", autocast="none", optimizer="adamw_torch"),
        ),
        "smollm2-135m cut to 6 blocks in bf16, 2 x 256, twice": (
            {"model": "smollm2-135m", "num_hidden_layers": 6},
            msgspec.structs.replace(BASE, seq_len=256, gradient_accumulation_steps=2),
        ),
    },
}
TINY_SHAPES: Final[dict[str, tuple[dict[str, Any], Strategy]]] = {
    "tiny, 1 x 32": ({"model": "llama-3.2-1b", **TINY}, msgspec.structs.replace(BASE, micro_batch_size=1, seq_len=32)),
}


class Contender(NamedTuple):
    """One way to train, and what it needs installed."""

    needs: tuple[str, ...]
    run: Callable[[Bench], list[float]]  # seconds of each step
    on: tuple[str, ...] = ("cuda", "cpu")
    under_autocast: bool = False  # and not without


class Bench(NamedTuple):
    """What a contender is given."""

    config: dict[str, Any]
    strategy: Strategy
    device: str
    num_steps: int

    def model(self, strategy: Strategy | None = None) -> Any:
        """The same random base each time, with the same adapter, ready to train."""
        return built(self.config, strategy or self.strategy, self.device, seed=SEED)

    @property
    def sequences_per_step(self) -> int:
        return self.strategy.micro_batch_size * self.strategy.gradient_accumulation_steps

    def wait(self) -> None:
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()


# ── the contenders ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _ours(*, recorded: bool = False, **changes: Any) -> Callable[[Bench], list[float]]:
    """Our own step, by a strategy with these changes; `recorded` by CUDA graphs."""

    def run(bench: Bench) -> list[float]:
        from remote.kernels.graphs import RECORDERS, Graphs
        from remote.measure.random_weights import random_batch, vocabulary_of
        from remote.step import settings_of, step
        from remote.training.optimizers import build_optimizer

        strategy = msgspec.convert(msgspec.to_builtins(bench.strategy) | changes, Strategy)
        model = bench.model(strategy)
        optimizer, settings = build_optimizer(strategy, model, Loop()), settings_of(strategy, bench.device, 1.0)
        batch = random_batch(strategy, vocabulary=vocabulary_of(bench.config, model), device=bench.device)
        graphs = Graphs(RECORDERS[bench.device](), model, print) if recorded else None
        seconds = []
        for _ in range(bench.num_steps):
            bench.wait()
            started = time.perf_counter()
            float(step(model, batch, optimizer, settings, graphs=graphs).loss)
            bench.wait()
            seconds.append(time.perf_counter() - started)
        return seconds

    return run


def _looking(run: Callable[[Bench], list[float]]) -> Callable[[Bench], list[float]]:
    """The same where transformers looks at each micro-batch for packed rows, as it does by itself."""

    def with_looks(bench: Bench) -> list[float]:
        with looking():
            return run(bench)

    return with_looks


def _rows(bench: Bench, model: Any) -> list[dict[str, list[int]]]:
    import torch

    from remote.measure.random_weights import vocabulary_of

    torch.manual_seed(SEED)
    number = bench.num_steps * bench.sequences_per_step
    ids = torch.randint(0, vocabulary_of(bench.config, model), (number, bench.strategy.seq_len)).tolist()
    return [{"input_ids": row, "labels": row} for row in ids]


def _arguments(bench: Bench, **more: Any) -> dict[str, Any]:
    strategy = bench.strategy
    return {
        "per_device_train_batch_size": strategy.micro_batch_size,
        "gradient_accumulation_steps": strategy.gradient_accumulation_steps,
        "max_steps": bench.num_steps,
        "bf16": strategy.autocast == "bfloat16",
        "gradient_checkpointing": True,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "optim": strategy.optimizer,
        "learning_rate": 1e-4,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": bench.device == "cpu",
        "dataloader_pin_memory": bench.device == "cuda",
        **more,
    }


def _watched(bench: Bench, trainer: Any) -> list[float]:
    from transformers import TrainerCallback

    seconds: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        started = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            bench.wait()
            self.started = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            bench.wait()
            seconds.append(time.perf_counter() - self.started)

    trainer.add_callback(Clock())
    trainer.train()
    return seconds


def _hugging_face(**more: Any) -> Callable[[Bench], list[float]]:
    def run(bench: Bench) -> list[float]:
        from transformers import Trainer, TrainingArguments, default_data_collator

        model = bench.model()
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(output_dir=folder, **_arguments(bench, **more))
            trainer = Trainer(
                model=model, args=arguments, train_dataset=_rows(bench, model), data_collator=default_data_collator
            )
            return _watched(bench, trainer)

    return run


def _trl(bench: Bench) -> list[float]:
    import pyarrow as pa
    from datasets import Dataset
    from datasets.table import InMemoryTable
    from trl import SFTConfig, SFTTrainer  # type: ignore[import-not-found]  # installed by whoever compares

    from remote.data.byte_tokenizer import byte_tokenizer

    model = bench.model()
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(output_dir=folder, max_length=bench.strategy.seq_len, **_arguments(bench))
        table = pa.Table.from_pylist([{"input_ids": row["input_ids"]} for row in _rows(bench, model)])
        # Named here: to name it by itself, `datasets` 5.2 copies pyarrow's module, of which 26 has a type that can't be copied.
        data = Dataset(InMemoryTable(table), fingerprint=f"rows-{SEED}")
        trainer = SFTTrainer(model=model, args=arguments, train_dataset=data, processing_class=byte_tokenizer())
        return _watched(bench, trainer)


AS_THEY_COME: Final[dict[str, Any]] = {"method_options": {"cast_input_dtype": False}}
PLAIN: Final = "plain Hugging Face"
CONTENDERS: Final[dict[str, Contender]] = {
    PLAIN: Contender((), _hugging_face()),
    "Hugging Face with Liger's kernels": Contender(("liger_kernel",), _hugging_face(use_liger_kernel=True), ("cuda",)),
    "TRL": Contender(("trl", "datasets"), _trl),
    "rentune, loss hf": Contender((), _ours(loss="hf")),
    "rentune, loss chunked": Contender((), _ours(loss="chunked")),
    "rentune, loss liger": Contender((), _ours(loss="liger")),
    # each feature beside the row above it: chunked, and one thing otherwise
    "rentune, chunked, looking for packed rows": Contender((), _looking(_ours(loss="chunked"))),
    "rentune, chunked, optimizer not fused": Contender((), _ours(loss="chunked", optimizer="adamw_torch"), ("cuda",)),
    "rentune, chunked, inputs as they come": Contender((), _ours(loss="chunked", **AS_THEY_COME), under_autocast=True),
    "rentune, chunked, CUDA graphs": Contender((), _ours(recorded=True, loss="chunked"), ("cuda",)),
    "rentune, chunked, fused": Contender((), _ours(loss="chunked", kernels="fused")),
    "rentune, chunked, compiled": Contender((), _ours(loss="chunked", kernels="compiled")),
    "rentune, chunked, compiled, inputs as they come": Contender(
        (), _ours(loss="chunked", kernels="compiled", **AS_THEY_COME), under_autocast=True
    ),
}


def installed(device: str) -> list[str]:
    """Contenders that can run here."""
    return [
        name
        for name, contender in CONTENDERS.items()
        if device in contender.on and all(importlib.util.find_spec(each) for each in contender.needs)
    ]


# ── rounds ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def run(
    out: Path, device: str, *, rounds: int, num_steps: int, minutes: float, only: Sequence[str], tiny: bool = False
) -> None:
    """Every shape, round and contender, until the time is up; a line each as it comes. None that stands in `out` runs again."""
    ends = time.monotonic() + 60 * minutes
    names = installed(device)
    done = {(line["round"], line["shape"], line["contender"]) for line in lines_of(out)}
    with out.open("a", encoding="utf-8") as file:
        for turn in range(rounds):
            for shape, (said, strategy) in (TINY_SHAPES if tiny else SHAPES[device]).items():
                if only and not any(part in shape for part in only):
                    continue
                config = dict(resolve_model(said["model"], base=None).config) | {
                    key: value for key, value in said.items() if key != "model"
                }
                for place, name in enumerate([*names[turn % len(names) :], *names[: turn % len(names)]]):
                    asks_autocast = CONTENDERS[name].under_autocast and strategy.autocast == "none"
                    if asks_autocast or (turn, shape, name) in done:
                        continue
                    if time.monotonic() > ends:
                        return
                    line = _line(name, Bench(config, strategy, device, num_steps))
                    line |= {"shape": shape, "contender": name, "round": turn, "place": place}
                    file.write(json.dumps(line) + "\n")
                    file.flush()
                    print(f"{shape:40} {name:34} {line.get('step_s', line.get('error'))}", flush=True)


def _line(name: str, bench: Bench) -> dict[str, Any]:
    """What one contender took; what goes wrong in other people's code is an answer too."""
    import torch

    cuda = bench.device == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        seconds = CONTENDERS[name].run(bench)[WARM_UP_STEPS:]
    except Exception as error:  # noqa: BLE001 - a contender that fails is told, and the others go on
        return {"error": f"{type(error).__name__}: {error}".partition("\n")[0]}
    finally:
        gc.collect()
    tokens = bench.sequences_per_step * bench.strategy.seq_len
    return {
        "step_s": statistics.median(seconds),
        "tokens_per_s": tokens / statistics.median(seconds),
        "peak_bytes": int(torch.cuda.max_memory_allocated()) if cuda else None,
        "device_name": torch.cuda.get_device_name(0) if cuda else "CPU",
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft")},
    }


# ── the table ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def lines_of(file: Path) -> list[dict[str, Any]]:
    """What stands in a file of runs; a line that was cut off is passed over."""
    found = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def table(file: Path, machine: str) -> str:
    """Markdown: medians over rounds, and the rate beside plain Hugging Face's of the same round."""
    lines = lines_of(file)
    made = [f"# Tokens a second against other loops: {_device(lines)}", "", machine, ""]
    made += [
        "| shape | contender | tokens/s | beside plain Hugging Face, least to most | peak allocated, GiB | rounds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for shape in dict.fromkeys(line["shape"] for line in lines):
        made += _rows_of(shape, [line for line in lines if line["shape"] == shape])
    order = "; ".join(
        f"{line['round']}.{line['place']} {line['contender']}" for line in lines if line["shape"] == lines[0]["shape"]
    )
    return "\n".join([*made, "", f"Order of the first shape: {order}.", ""])


def _rows_of(shape: str, lines: list[dict[str, Any]]) -> Iterator[str]:
    plain = {line["round"]: line["tokens_per_s"] for line in lines if line["contender"] == PLAIN and "tokens_per_s" in line}
    for name in dict.fromkeys(line["contender"] for line in lines):
        own = [line for line in lines if line["contender"] == name and "tokens_per_s" in line]
        if not own:
            error = next(line["error"] for line in lines if line["contender"] == name)
            yield f"| {shape} | {name} | failed: {error} | | | |"
            continue
        ratios = [line["tokens_per_s"] / plain[line["round"]] for line in own if line["round"] in plain]
        beside = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""
        peak = "" if own[0]["peak_bytes"] is None else f"{statistics.median(line['peak_bytes'] for line in own) / 2**30:.2f}"
        rate = statistics.median(line["tokens_per_s"] for line in own)
        yield f"| {shape} | {name} | {rate:,.0f} | {beside} | {peak} | {len(own)} |"


def _device(lines: list[dict[str, Any]]) -> str:
    return next((line["device_name"] for line in lines if "device_name" in line), "none")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="JSON lines; appended to")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help=f"the first {WARM_UP_STEPS} of each are left out")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="nothing begins after these")
    parser.add_argument("--only", nargs="*", default=(), help="parts of the names of shapes")
    parser.add_argument("--tiny", action="store_true", help="a tiny shape: a rehearsal")
    parser.add_argument("--table", type=Path)
    parser.add_argument("--machine", default=None, help="where a table was measured; this machine unless said")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    if asked.steps <= WARM_UP_STEPS:
        parser.error(f"--steps {asked.steps} leaves none to time: the first {WARM_UP_STEPS} warm up")
    if asked.out:
        said = {"rounds": asked.rounds, "num_steps": asked.steps, "minutes": asked.minutes, "only": tuple(asked.only)}
        run(asked.out, asked.device, tiny=asked.tiny, **said)
    if asked.table:
        text = table(asked.table, asked.machine or describe_machine())
        print(text)
        if asked.write:
            (RESULTS / f"trainer_{_device(lines_of(asked.table)).replace(' ', '-')}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
