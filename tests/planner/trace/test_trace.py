"""The trace: it equals what a real step allocates, cuts it by role and instant, and refuses what it can't run."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks.estimates.trace_cases import cut
from catalogs.bases.models import resolve_model
from catalogs.catalog import read_catalog
from planner.asking.case import read_case
from planner.estimate import estimate
from planner.estimators.trace import trace_counted, trace_vram
from planner.estimators.trace.cache import LIBRARIES, installed
from planner.estimators.trace.recorder import Role, Stage, Trace
from planner.explain import explain
from planner.refusals import CaseError, Untraceable
from planner.strategy.stack import EvaluationAsked, Stack
from planner.units import MIB
from remote.contract import Loop, Strategy

pytestmark = pytest.mark.torch

TINY: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 1024,
    "tie_word_embeddings": True,
}
LORA = Strategy(method="lora", rank=8, micro_batch_size=2, seq_len=96)
FULL = msgspec.structs.replace(LORA, method="full", rank=None)


def changed(strategy: Strategy, **fields: Any) -> Strategy:
    return msgspec.structs.replace(strategy, **fields)


def log_of(strategy: Strategy, **options: Any) -> Trace:
    from planner.estimators.trace.tracing import traced

    return traced(TINY, strategy, **options)


def rise(trace: Trace) -> int:
    """Bytes by which a step rises above what was there before, unrounded as a CPU counts them."""
    first = next(mark.position for mark in trace.marks if mark.stage == Stage.FORWARD)
    last = next(mark.position for mark in trace.marks if mark.stage == Stage.EVALUATION)
    level = peak = 0
    for event in trace.events[first:last]:
        level += trace.sizes[event] if event >= 0 else -trace.sizes[~event]
        peak = max(peak, level)
    return peak


# ── against the real thing ─────────────────────────────────────────────────────────────────────────────────────────────

REAL = {"param_dtype": "float32", "autocast": "none", "attention": "eager", "optimizer": "adamw_torch"}
SCRATCH_BYTES = 20_000  # what matrix products on a CPU take for packing; a trace of a GPU step knows nothing of it


@pytest.mark.parametrize(
    "strategy",
    [
        changed(LORA, gradient_checkpointing="off", **REAL),
        changed(LORA, gradient_checkpointing="non_reentrant", **REAL),
        changed(LORA, gradient_checkpointing="reentrant", gradient_accumulation_steps=2, **REAL),
        changed(FULL, gradient_checkpointing="off", **REAL),
        changed(FULL, gradient_checkpointing="non_reentrant", gradient_accumulation_steps=2, **REAL),
    ],
    ids=lambda strategy: f"{strategy.method}-{strategy.gradient_checkpointing}-{strategy.gradient_accumulation_steps}",
)
def test_a_traced_step_takes_what_a_real_one_takes(strategy: Strategy) -> None:
    """The same step with numbers in it, watched by torch's own memory profiler, rises as high as the trace says."""
    surplus = real_rise(strategy) - rise(log_of(strategy))
    assert 0 <= surplus < SCRATCH_BYTES


def real_rise(strategy: Strategy) -> int:
    """Bytes by which a second real step on the CPU rises, by the allocator's own events; no mode of ours is on."""
    import torch
    from torch.profiler import ProfilerActivity, profile
    from transformers import AutoConfig, AutoModelForCausalLM

    from remote.adapters import adapt, base_of
    from remote.bases.base import checkpoint_activations
    from remote.data.batches import MicroBatch
    from remote.step import settings_of, step
    from remote.training.optimizers import build_optimizer

    said = {key: value for key, value in TINY.items() if key != "model_type"}
    config = AutoConfig.for_model(TINY["model_type"], **said)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager")
    model = adapt(model, strategy, Loop())
    checkpoint_activations(base_of(model), strategy)
    model.train()
    optimizer, settings = build_optimizer(strategy, model, Loop()), settings_of(strategy, "cpu", 1.0)
    shape = (strategy.micro_batch_size, strategy.seq_len)
    batch = [
        MicroBatch(
            input_ids=torch.randint(0, TINY["vocab_size"], shape),
            labels=torch.randint(0, TINY["vocab_size"], shape),
            attention_mask=None,
            num_targets=shape[0] * (shape[1] - 1),
        )
        for _ in range(strategy.gradient_accumulation_steps)
    ]
    step(model, batch, optimizer, settings)
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step(model, batch, optimizer, settings)
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    level = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        level += event.nbytes()
        peak = max(peak, level)
    return peak


def test_llama_1b_with_lora_takes_what_the_field_knows() -> None:
    """Llama-3.2-1B, LoRA r16 on all linears, AMP, 4 × 2,048 tokens, checkpointing, outputs kept: 16.69 GiB without cuBLAS."""
    config = TINY | {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": 128_256,
    }
    strategy = Strategy(method="lora", rank=16, micro_batch_size=4, seq_len=2048)
    found = trace_vram(config, strategy, stack=Stack(keep_outputs="logits"))
    assert (found.allocated_peak_bytes - found.components["workspaces"]) / 2**30 == pytest.approx(16.69, abs=0.005)
    assert found.peak_instant == "loss"


# ── parts and instants ─────────────────────────────────────────────────────────────────────────────────────────────────

VARIANTS = {
    "lora": LORA,
    "padded": changed(LORA, padded=True),
    "eager": changed(LORA, attention="eager"),
    "fp16": changed(LORA, param_dtype="float16", autocast="float16"),
    "fp32": changed(LORA, param_dtype="float32", autocast="none"),
    "dropout": changed(LORA, dropout=0.1),
    "nf4": changed(LORA, quant="nf4", double_quant=True, kbit_upcast="full"),
    "fp4": changed(LORA, quant="fp4", kbit_upcast="norms"),
    "int8": changed(LORA, quant="int8", kbit_upcast="full"),
    "reentrant": changed(LORA, gradient_checkpointing="reentrant"),
    "no checkpointing": changed(LORA, gradient_checkpointing="off"),
    "accumulation": changed(LORA, gradient_accumulation_steps=3),
    "full": FULL,
    "full 8-bit": changed(FULL, optimizer="adamw_8bit"),
    "full foreach": changed(FULL, optimizer="adamw_torch"),
    "sgd": changed(LORA, optimizer="sgd"),
}


@pytest.mark.parametrize("strategy", VARIANTS.values(), ids=VARIANTS)
def test_parts_sum_to_the_peak_and_the_peak_is_the_largest_instant(strategy: Strategy) -> None:
    found = trace_vram(TINY, strategy)
    training = {name: size for name, size in found.by_instant.items() if name != "evaluation"}
    assert sum(found.components.values()) == found.allocated_peak_bytes == max(training.values())
    assert found.by_instant[found.peak_instant] == found.allocated_peak_bytes
    assert found.allocated_peak_bytes <= found.reserved_peak_bytes <= found.process_peak_bytes


def test_every_part_that_a_step_has_is_named() -> None:
    """Weights and states are counted to the byte; adapters have theirs, full fine-tuning has none."""
    lora, full = trace_vram(TINY, LORA).components, trace_vram(TINY, FULL).components
    width = 128 * 4 + (128 + 64) * 2 + (128 + 384) * 3  # query and output, key and value, the three of the MLP
    assert lora["adapter"] == 3 * 8 * width * 4
    assert lora["optimizer"] == pytest.approx(2 * lora["adapter"], rel=0.1)  # and a step count per tensor, 512 bytes each
    assert full["adapter"] == 0
    assert full["optimizer"] == pytest.approx(2 * full["weights"], rel=0.05)


@pytest.mark.parametrize(
    ("less", "more"),
    [
        (LORA, changed(LORA, gradient_checkpointing="off")),
        (LORA, changed(LORA, micro_batch_size=4)),
        (LORA, changed(LORA, padded=True)),
        (changed(LORA, quant="nf4"), LORA),
        (changed(LORA, quant="int8", gradient_checkpointing="reentrant"), changed(LORA, quant="int8")),
        (FULL, changed(FULL, optimizer="adamw_torch", gradient_accumulation_steps=2)),
    ],
)
def test_what_costs_memory_costs_memory(less: Strategy, more: Strategy) -> None:
    assert trace_vram(TINY, less).allocated_peak_bytes < trace_vram(TINY, more).allocated_peak_bytes


def test_the_first_trace_of_a_process_is_like_the_next() -> None:
    """What a library makes once, as it is imported, is no memory of the job's."""
    code = (
        "from planner.estimators.trace import trace_vram\nfrom tests.planner.trace.test_trace import LORA, TINY\n"
        "first, second = (trace_vram(TINY, LORA) for _ in range(2))\nprint(first == second)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_kept_outputs_are_there_in_backward() -> None:
    """Holding on to the logits costs two bytes each beside those of the loss."""
    kept = trace_vram(TINY, LORA, stack=Stack(keep_outputs="logits")).allocated_peak_bytes
    assert kept - trace_vram(TINY, LORA).allocated_peak_bytes == 2 * 96 * 1024 * 2


def test_a_longer_evaluation_batch_needs_more_and_training_is_the_same() -> None:
    plain = trace_vram(TINY, LORA)
    large = trace_vram(TINY, LORA, stack=Stack(evaluation=EvaluationAsked(micro_batch_size=16)))
    assert large.evaluation_peak_bytes > plain.evaluation_peak_bytes
    assert large.allocated_peak_bytes == plain.allocated_peak_bytes


def test_a_mask_brings_the_memory_efficient_kernel_with_its_scratch() -> None:
    """Without a mask flash runs. Both take an fp32 accumulator in backward; it is named as a kernel's own."""
    for strategy in (LORA, changed(LORA, padded=True)):
        trace = log_of(changed(strategy, gradient_checkpointing="off"))
        scratch = [size for size, role in zip(trace.sizes, trace.roles, strict=True) if role == Role.KERNEL_SCRATCH]
        assert len(scratch) == TINY["num_hidden_layers"]


def test_an_older_card_has_no_flash_and_a_newer_one_larger_workspaces() -> None:
    """One cuBLAS workspace for each of two threads: 8.125 MiB, 32 MiB from Hopper on."""
    ampere, hopper = (log_of(LORA, compute_capability=card) for card in ((8, 0), (9, 0)))
    sizes = [
        [size for size, role in zip(log.sizes, log.roles, strict=True) if role == Role.WORKSPACES] for log in (ampere, hopper)
    ]
    assert sizes == [[8_519_680] * 2, [32 * MIB] * 2]


def test_two_traces_of_one_case_are_equal() -> None:
    assert log_of(LORA) == log_of(LORA)


def test_what_posed_as_a_card_is_undone() -> None:
    """After a trace torch answers as before, also when the trace ended in a refusal."""
    import torch
    import torch.utils.checkpoint

    before = (
        torch.cuda.is_bf16_supported,
        torch.utils.checkpoint._infer_device_type,
        torch.clear_autocast_cache,
        torch.autocast,
    )
    trace_vram(TINY, LORA)
    with pytest.raises(Untraceable):
        trace_vram({"model_type": "made_up"}, LORA)
    after = (
        torch.cuda.is_bf16_supported,
        torch.utils.checkpoint._infer_device_type,
        torch.clear_autocast_cache,
        torch.autocast,
    )
    assert before == after
    assert not torch.is_autocast_enabled("cuda")


def test_autocast_casts_what_torch_casts_on_cuda() -> None:
    """Every operation in the lists has an autocast kernel for CUDA in the installed torch; the rest are other names of such."""
    import torch

    from planner.estimators.trace.autocast import FP32, FP32_RESULT, LOWER

    names = torch._C._dispatch_get_all_op_names()
    cast = [name for name in names if torch._C._dispatch_has_kernel_for_dispatch_key(name, "AutocastCUDA")]
    other_names = {"rmatmul", "rpow", "cross_entropy"}  # of matmul, pow, and of log_softmax with nll_loss
    assert (LOWER | FP32 | FP32_RESULT) - {name.removeprefix("aten::").partition(".")[0] for name in cast} == other_names


# ── cache ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_trace_is_made_once(tmp_path: Path) -> None:
    """The second answer comes from the folder, without torch: a process that has none loaded still has none."""
    first = trace_vram(TINY, LORA, cache=tmp_path)
    code = f"""
import sys
from pathlib import Path
import msgspec
from planner.estimators.trace import trace_vram
from remote.contract import Strategy
found = trace_vram({TINY!r}, msgspec.convert({msgspec.to_builtins(LORA)!r}, Strategy), cache=Path({str(tmp_path)!r}))
assert "torch" not in sys.modules
print(found.allocated_peak_bytes)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{first.allocated_peak_bytes}\n", "")


def test_releases_are_those_that_the_packages_state() -> None:
    """They are read off the names of folders, which spares the library for that: a kept trace is answered sooner."""
    assert installed() == {library: version(library) for library in LIBRARIES}


def test_a_library_that_is_not_there_has_no_release(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "torch-2.12.0+cpu.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "nowhere")])
    assert installed() == dict.fromkeys(LIBRARIES) | {"torch": "2.12.0+cpu"}


def test_who_waits_is_told_while_a_step_is_traced_and_not_where_one_was_kept(tmp_path: Path) -> None:
    told: list[str] = []

    @contextmanager
    def tracing() -> Iterator[None]:
        told.append("begun")
        yield
        told.append("ended")

    for _ in range(2):
        trace_counted(TINY, LORA, cache=tmp_path, tracing=tracing)
    assert told == ["begun", "ended"]


def test_levers_of_a_case_that_only_a_trace_answers_are_traced(tmp_path: Path) -> None:
    """MiSS has no closed form. A shorter sequence saves what its own trace says that it saves."""
    said = {"model": TINY, "method": "miss", "rank": 4, "micro_batch_size": 1, "seq_len": 512, "gradient_checkpointing": "off"}
    case, catalog = read_case(said), read_catalog()
    made = estimate(case, catalog, cache=tmp_path)
    found = explain(made, case, catalog, cache=tmp_path)
    assert found.limits is None
    (shorter,) = (effect for effect in found.levers if effect.changes == {"seq_len": 256})
    asked = estimate(read_case(said | {"seq_len": 256}), catalog, cache=tmp_path)
    assert shorter.required_bytes == asked.vram.required_bytes < made.vram.required_bytes


def test_another_case_is_another_trace(tmp_path: Path) -> None:
    for strategy in (LORA, changed(LORA, rank=4), changed(LORA, padded=True)):
        trace_vram(TINY, strategy, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("spoiled", [b"{", b'"\xff"'])
def test_a_spoiled_cache_is_made_again(tmp_path: Path, spoiled: bytes) -> None:
    first = trace_vram(TINY, LORA, cache=tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(spoiled)
    assert trace_vram(TINY, LORA, cache=tmp_path) == first
    assert kept.read_bytes() != spoiled


def test_a_trace_that_no_folder_takes_is_an_answer_all_the_same() -> None:
    assert trace_vram(TINY, LORA, cache=Path("/dev/null/traces")) == trace_vram(TINY, LORA, cache=None)


# ── refusals ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("config", "strategy", "stack", "key"),
    [
        ({"model_type": "made_up"}, LORA, Stack(), "model"),
        (TINY | {"num_attention_heads": 0}, LORA, Stack(), "model"),
        (TINY | {"auto_map": {"AutoModelForCausalLM": "code.Model"}}, LORA, Stack(), "model"),
        (TINY, changed(LORA, method="trainable_tokens"), Stack(), "method"),
        (TINY, changed(LORA, loss="fused_inplace"), Stack(), "loss"),
        (TINY, changed(LORA, sharding="fsdp", num_gpus=2), Stack(), "sharding"),
        (TINY, changed(LORA, attention="flash_attention_2"), Stack(), "attention"),
        (TINY, LORA, Stack(name="unsloth"), "stack"),
        (TINY, LORA, Stack(versions={"transformers": "4.44"}), "versions"),
    ],
)
def test_what_a_trace_cannot_run_is_refused_by_name(config: dict[str, Any], strategy: Strategy, stack: Stack, key: str) -> None:
    with pytest.raises(Untraceable) as refusal:
        trace_vram(config, strategy, stack=stack)
    assert refusal.value.key == key


def test_targets_that_the_model_does_not_have_are_named() -> None:
    with pytest.raises(CaseError, match="c_attn"):
        trace_vram(TINY, changed(LORA, target_modules=("c_attn",)))


# ── as an engine of `estimate` ─────────────────────────────────────────────────────────────────────────────────────────


def answered(case: dict[str, Any], cache: Path | None = None) -> dict[str, Any]:
    from catalogs.catalog import read_catalog
    from planner.estimate import answer

    return answer(case, read_catalog(), None, cache=cache)


def test_a_case_may_ask_for_the_trace(tmp_path: Path) -> None:
    """The answer names its engine, and the trace is kept where the caller said."""
    told = answered({"model": TINY, "seq_len": 96, "micro_batch_size": 2, "engine": "trace"}, cache=tmp_path)
    assert told["engine"] == "trace"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_case_that_cannot_be_traced_says_why() -> None:
    told = answered({"model": TINY, "loss": "fused_inplace", "engine": "trace"})
    assert told["error"]["key"] == "loss"


def test_auto_traces_only_what_has_no_closed_form() -> None:
    """With a closed form it answers. Muon over LoHa has neither, and the closed form's reason is told."""
    assert answered({"model": TINY, "seq_len": 96})["engine"] == "closed_form"
    assert "closed form" in answered({"model": TINY, "method": "loha", "optimizer": "muon"})["error"]["message"]


def test_a_trace_leaves_real_quantization_alone() -> None:
    """The code table of bitsandbytes lives as long as the process; after a trace it must still have values in it."""
    import bitsandbytes
    import torch

    log_of(changed(LORA, quant="nf4", double_quant=True))
    packed, state = bitsandbytes.functional.quantize_4bit(torch.ones(64, 64), compress_statistics=True, quant_type="nf4")
    assert packed.device.type == state.state2.code.device.type == "cpu"


# ── drawn ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_drawn_step_keeps_its_peak_and_its_parts() -> None:
    """Thinning out drops valleys and no top; of many micro-batches two are drawn, and what is reserved covers them."""
    from planner.estimators.timelines import traced_line

    strategy = changed(LORA, gradient_accumulation_steps=6)
    line = traced_line(TINY, strategy, task="causal_lm", gpu=None, stack=Stack())
    two = trace_vram(TINY, changed(LORA, gradient_accumulation_steps=2))
    assert max(line.allocated) == two.allocated_peak_bytes
    assert max(line.reserved) == two.reserved_peak_bytes
    assert all(size <= held for size, held in zip(line.allocated, line.reserved, strict=True))
    at = line.allocated.index(max(line.allocated))
    assert {name: sizes[at] for name, sizes in line.components.items() if sizes[at]} == {
        name: size for name, size in two.components.items() if size
    }
    assert [stretch.instant for stretch in line.stretches].count("forward") == 2
    assert line.stretches[-1].instant == "optimizer_step"
    assert line.stretches[-1].end == len(line.allocated) < line.num_events


def test_float16_weights_under_a_float16_autocast_are_refused_in_our_words() -> None:
    """Torch's own are of a scaler that nobody asked for."""
    strategy = Strategy(method="full", param_dtype="float16", autocast="float16", seq_len=64)
    config = cut(resolve_model("llama-3.2-1b", base=None).config, 1)
    with pytest.raises(Untraceable, match="torch unscales none of float16 weights"):
        trace_vram(config, strategy)
