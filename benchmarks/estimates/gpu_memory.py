"""What steps really take on a GPU: the campaign that the memory estimate is to be held against.

    python -m benchmarks.estimates.gpu_memory --out runs.jsonl                # on a machine with one NVIDIA GPU
    python -m benchmarks.estimates.gpu_memory --out dry.jsonl --device cpu    # a rehearsal with tiny shapes: no figure of CUDA
    python -m benchmarks.estimates.gpu_memory_compare runs.jsonl --write

The machine needs torch, transformers, and as wheels peft, accelerate, bitsandbytes, nvidia-ml-py, msgspec and this checkout's
light dependencies. Nothing is downloaded: weights are random, made on the device. Each case runs in a process of its own,
forked from one that has imported everything and never touched CUDA, so that it starts in milliseconds and leaves nothing
behind. Cases that stand in the file already are passed over: start it again to go on.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from catalogs.bases.models import resolve_model
from planner.asking.case import read_case, strategy_of
from planner.strategy.precision import BITSANDBYTES
from remote.contract import CAPABILITIES
from remote.measured import StepAsked

MODELS: Final[dict[str, dict[str, Any]]] = {  # each in every variation, with what it asks for
    "llama-3.2-1b": {},
    "llama-3.1-8b": {},
    "qwen2.5-1.5b": {},
    "gemma-2-2b": {"attention": "eager", "seq_len": 1024},  # it caps its scores, which no fused kernel does
    "mistral-7b-v0.3": {},
    "gpt2": {},
}
BASELINE: Final[dict[str, Any]] = {"micro_batch_size": 2, "seq_len": 2048}
VARIATIONS: Final[dict[str, dict[str, Any]]] = {  # one thing each against the baseline, as keys of a case
    "lora": {},
    "nf4": {"quant": "nf4", "double_quant": True, "kbit_upcast": "none"},
    "keeping": {"gradient_checkpointing": "off", "micro_batch_size": 1},
    "full": {"method": "full", "micro_batch_size": 1},
    "reentrant": {"gradient_checkpointing": "reentrant"},
    "nf4_upcast": {"quant": "nf4", "kbit_upcast": "full"},
    "int8": {"quant": "int8", "kbit_upcast": "none"},
    "padded": {"padded": True},
    "eager": {"attention": "eager", "seq_len": 1024},
    "long": {"micro_batch_size": 1, "seq_len": 8192},
    "accumulated": {"gradient_accumulation_steps": 2},
    "attention_targets": {"target_modules": "default"},
    "rank_128": {"rank": 128},
    "dropout": {"dropout": 0.1},
    "adapter_16": {"adapter_dtype": "bfloat16", "autocast": "none"},
    "foreach": {"optimizer": "adamw_torch", "rank": 128},
    "optimizer_8bit": {"optimizer": "adamw_8bit", "rank": 128},
    "chunked": {"loss": "chunked"},
    "liger": {"loss": "liger"},
}
FLAGSHIPS: Final[dict[str, dict[str, Any]]] = {  # what a card is rented for; in 4 bits
    "qwen2.5-32b": {},
    "llama-3.1-70b": {"micro_batch_size": 1},
    "qwen2.5-14b": {},
}
FAMILIES: Final[dict[str, dict[str, Any]]] = {  # LoRA at the baseline: another architecture each
    "qwen3-1.7b": {},
    "phi-3-mini": {},
    "gemma-3-1b": {"attention": "eager", "seq_len": 1024},
    "smollm2-1.7b": {},
    "smollm3-3b": {},
    "olmo-2-1b": {},
    "granite-3.1-2b": {},
    "pythia-1.4b": {},
    "opt-1.3b": {},
    "bloom-1b1": {"attention": "eager", "seq_len": 1024},
    "stablelm-2-1.6b": {},
    "phi-2": {},
    "falcon-7b": {},
    "mpt-1b": {},
    "starcoder2-3b": {},
    "gpt-j-6b": {},
    "qwen1.5-moe-a2.7b": {"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]},
    "granite-3.0-1b-a400m": {"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]},
    "gpt-oss-20b": {"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"], "attention": "eager", "seq_len": 1024},
}
TOKENS: Final = {"num_virtual_tokens": 20}
WAYS: Final[dict[str, dict[str, Any]]] = {  # every other way of the trainer's, each on one base
    "dora": {"method": "dora"},
    "dora_nf4": {"method": "dora", "quant": "nf4", "double_quant": True, "kbit_upcast": "none"},
    "adalora": {"method": "adalora"},
    "loha": {"method": "loha"},
    "lokr": {"method": "lokr"},
    "oft": {"method": "oft"},
    "vera": {"method": "vera"},
    "fourierft": {"method": "fourierft"},
    "ia3": {"method": "ia3"},
    "prompt_tuning": {"method": "prompt_tuning", **TOKENS},
    "p_tuning": {"method": "p_tuning", **TOKENS},
    "prefix_tuning": {"method": "prefix_tuning", "gradient_checkpointing": "off", "micro_batch_size": 1, **TOKENS},
    "lora_prompt": {"method": "lora_prompt", **TOKENS},
    "bottleneck": {"method": "bottleneck", "rank": 64},
    "ln_tuning": {"method": "ln_tuning"},
    "freeze": {"method": "freeze", "trainable_layers": 2},
    "lora_fa": {"optimizer": "lora_fa"},
    "scaler": {"autocast": "float16"},
    "fp32_base": {"param_dtype": "float32", "autocast": "none", "micro_batch_size": 1},
    "mixed_full": {"method": "full", "param_dtype": "float32", "micro_batch_size": 1},
    "full_8bit": {"method": "full", "optimizer": "adamw_8bit", "micro_batch_size": 1},
    "full_sgd": {"method": "full", "optimizer": "sgd", "micro_batch_size": 1},
    "nf4_norms": {"quant": "nf4", "kbit_upcast": "norms"},
    "nf4_keeping": {"quant": "nf4", "kbit_upcast": "none", "gradient_checkpointing": "off", "micro_batch_size": 1},
    "padded_keeping": {"padded": True, "gradient_checkpointing": "off", "micro_batch_size": 1},
}
LAST: Final = {"boft": {"method": "boft"}}  # compiles a kernel of peft's first, where the machine has nvcc: minutes
FIRST: Final = ("lora", "nf4", "keeping", "full")  # variations before all else: should the time be short
TINY: Final = {  # what a rehearsal makes of a configuration, where it has such a key
    "hidden_size": 64, "n_embd": 64, "num_hidden_layers": 2, "n_layer": 2, "num_attention_heads": 4, "n_head": 4,
    "num_key_value_heads": 2, "head_dim": 16, "query_pre_attn_scalar": 16, "intermediate_size": 128, "vocab_size": 256,
    "rotary_dim": 16,
}  # fmt: skip
TINY_TOKENS: Final = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}  # of the vocabulary that is left
TINY_BATCH: Final = {"micro_batch_size": 2, "seq_len": 16}
WAYS_ON: Final = "llama-3.2-1b"
POSITIONS: Final = ("n_positions", "max_position_embeddings", "max_seq_len")  # learned ones end there
MOST_TOKENS: Final = 8192
ASKS_FOR_THE_CARD: Final = "bitsandbytes"  # as it is imported: so it is hidden from all but the children that need it
REMEMBER_LIBRARIES: Final = ("peft.import_utils", "transformers.utils.import_utils", "accelerate.utils.imports")
MINUTES: Final = 9.0  # after which no case is begun
CASE_LIMIT_S: Final = 60.0  # after which a case is ended


class Campaign(NamedTuple):
    """Where and how far."""

    device: str
    out: Path
    minutes: float
    only: tuple[str, ...]  # parts of names; empty = all


class Case(NamedTuple):
    """One configuration: its name, the case of the estimate contract that asks the same, and what is run."""

    name: str
    case: dict[str, Any]
    asked: StepAsked


def cases(device: str) -> Iterator[Case]:
    """Every model in every variation that the trainer can do; what matters most comes first."""
    for name, said in _asked():
        config = dict(resolve_model(said["model"], base=None).config)
        if device == "cpu":
            said |= TINY_BATCH
            config |= {key: value for key, value in TINY.items() if key in config} | TINY_TOKENS
        said["seq_len"] = min(said["seq_len"], *(config[key] for key in POSITIONS if key in config), MOST_TOKENS)
        strategy = strategy_of(read_case(said))
        if not CAPABILITIES.missing(strategy):
            asked = StepAsked(config=config, strategy=strategy, device="cpu" if device == "cpu" else "cuda")
            yield Case(name, {**said, "model": config}, asked)


def _asked() -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and cases of the contract, in their order."""
    varied = {
        f"{variation}/{model}": {"model": model, **BASELINE, **changes, **needs}
        for variation, changes in VARIATIONS.items()
        for model, needs in MODELS.items()
    }
    nf4 = VARIATIONS["nf4"]
    flagships = {f"nf4/{model}": {"model": model, **BASELINE, **nf4, **needs} for model, needs in FLAGSHIPS.items()}
    families = {f"lora/{model}": {"model": model, **BASELINE, **needs} for model, needs in FAMILIES.items()}
    ways, last = (
        {f"{way}/{WAYS_ON}": {"model": WAYS_ON, **BASELINE, **changes} for way, changes in table.items()}
        for table in (WAYS, LAST)
    )
    first = {name: said for name, said in varied.items() if name.partition("/")[0] in FIRST}
    yield from (first | flagships | families | ways | varied | last).items()


def run(campaign: Campaign) -> int:
    """Every case that the file does not hold yet, until the time is up. Returns how many were run."""
    ends = time.monotonic() + 60 * campaign.minutes
    done = set(_names_in(campaign.out))
    wanted = [case for case in cases(campaign.device) if not campaign.only or any(part in case.name for part in campaign.only)]
    left = [case for case in wanted if case.name not in done]
    if left:
        _preload(left)
    num_run = 0
    with campaign.out.open("a", encoding="utf-8") as file:
        if file.tell():
            file.write("\n")  # an earlier start may have been killed within a line
        for case in left:
            if time.monotonic() > ends:
                break
            line = _in_a_child(case, campaign.device)
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
            num_run += 1
            print(f"{case.name:32} {line['end']:14} {line['wall_s']:6.1f} s", flush=True)
    print(f"{num_run} cases run, {len(wanted) - len(left)} stood in {campaign.out} already, {len(left) - num_run} are left")
    return num_run


def _names_in(file: Path) -> Iterator[str]:
    """Cases of an earlier start; a line that was cut off is run again."""
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        try:
            yield json.loads(line)["name"]
        except (ValueError, KeyError):
            continue


# ── processes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _preload(left: list[Case]) -> None:
    """Import what every child needs, without a context on the GPU: a forked process can't use one of its parent's.

    importlib takes a None among the modules for "not installed".
    """
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # torch.cuda.is_available() asks the driver's library, not CUDA
    sys.modules[ASKS_FOR_THE_CARD] = None  # type: ignore[assignment]
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    for module in ("peft", "remote.adapters", "remote.measure", "remote.training.optimizers", "remote.step"):
        importlib.import_module(module)
    for config in {case.asked.config["model_type"]: case.asked.config for case in left}.values():
        said = dict(config)
        known = AutoConfig.for_model(said.pop("model_type"), **said)
        AutoModelForCausalLM._model_mapping[type(known)]  # noqa: SLF001 - imports the family's code
    if torch.cuda.is_initialized():
        raise RuntimeError("an import has touched CUDA: no process forked from here could use it")


def _reveal() -> None:
    """Let bitsandbytes be found in this child; what was remembered of its absence is forgotten."""
    del sys.modules[ASKS_FOR_THE_CARD]
    for name in REMEMBER_LIBRARIES:
        for answer in vars(sys.modules[name]).values() if name in sys.modules else ():
            if callable(forget := getattr(answer, "cache_clear", None)):
                forget()


def _in_a_child(case: Case, device: str) -> dict[str, Any]:
    """One line of the file: what the child measured, or how it failed."""
    started = time.monotonic()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _child(case, writing)
    os.close(writing)
    text = _read_all(reading, until=started + CASE_LIMIT_S)
    if text is None:
        os.kill(pid, signal.SIGKILL)
    os.close(reading)
    os.waitpid(pid, 0)
    said = {"end": "timed_out" if text is None else "died", "message": f"no answer in {CASE_LIMIT_S:.0f} s"} if not text else {}
    measured = json.loads(text) if text else said
    wall_s = round(time.monotonic() - started, 2)
    figures = "CUDA" if device == "cuda" else "rehearsal on a CPU: no figure of CUDA"
    return {"name": case.name, "figures": figures, "wall_s": wall_s, "case": case.case, **measured}


def _child(case: Case, writing: int) -> None:
    """Measure, write, end at once: nothing of the parent's is to be cleaned up here."""
    try:
        from remote.measure import measure

        strategy = case.asked.strategy
        if strategy.quant in BITSANDBYTES or strategy.optimizer.endswith("8bit"):
            _reveal()
        told = msgspec.to_builtins(measure(case.asked))
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is this case's answer
        told = {"end": "failed", "message": f"{type(error).__name__}: {error}", "where": traceback.format_exc(limit=-3)}
    with os.fdopen(writing, "w", encoding="utf-8") as pipe:
        pipe.write(json.dumps(told))
    os._exit(0)


def _read_all(reading: int, *, until: float) -> bytes | None:
    """What comes through the pipe until it is closed; None when the time is up."""
    found = b""
    while (left_s := until - time.monotonic()) > 0:
        if select.select([reading], [], [], left_s)[0]:
            piece = os.read(reading, 1 << 16)
            if not piece:
                return found
            found += piece
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; what stands there is not run again")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"no case begins after these (default {MINUTES:g})")
    parser.add_argument("--only", nargs="*", default=(), help="parts of the names of cases")
    said = parser.parse_args()
    run(Campaign(said.device, said.out, said.minutes, tuple(said.only)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
