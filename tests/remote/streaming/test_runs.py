"""Whole runs and every method with a streamed base: the result is the resident run's."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest

from remote.__main__ import carry_out
from remote.adapters import adapt, base_of
from remote.bases.base import checkpoint_activations
from remote.checkpoints.checkpoint import trainable
from remote.contract import CAPABILITIES, OUTCOME_FILE, EndReason, Loop, Outcome, Strategy, Streaming, decode
from remote.measure.random_weights import random_batch
from remote.step import settings_of, step
from remote.streaming import settle, stream
from remote.training.optimizers import build_optimizer
from remote.watch import Watch
from tests.remote.conftest import CONFIG, STRATEGY, Asked, MakeJob

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:You are trying to modify a model with PEFT:UserWarning"),
]

RECOMPUTED = msgspec.structs.replace(STRATEGY, gradient_checkpointing="non_reentrant")
PASSING = Streaming(num_slots=1, num_resident_blocks=0, num_visits=1, num_blocks_without_recompute=0)
STREAMED = msgspec.structs.replace(RECOMPUTED, offload="stream", streaming=PASSING)
NEEDS: dict[str, dict[str, Any]] = {  # of a method, beside the smallest strategy
    "prompt_tuning": {"num_virtual_tokens": 6},
    "p_tuning": {"num_virtual_tokens": 6},
    "lora_prompt": {"rank": 4, "num_virtual_tokens": 6},
    "bottleneck": {"rank": 8},
    **{name: {"rank": 4} for name in ("lora", "rslora", "lora_plus", "dora", "adalora", "loha", "lokr", "vera")},
}
WITHOUT_CHECKPOINTS = ("prefix_tuning",)  # peft puts its keys where checkpointing drops them, so the planner never asks both
SLOW = ("boft",)  # compiles a kernel
METHODS = [name for name in CAPABILITIES.methods if name not in (*CAPABILITIES.unstreamed, *WITHOUT_CHECKPOINTS, *SLOW)]


def run(job: Any, *, watch: Watch | None = None) -> Outcome:
    carry_out(job, watch=watch or Watch())
    return decode(job.with_name(OUTCOME_FILE).read_bytes(), Outcome)


def weights(outcome: Outcome) -> str:
    return next(file.sha256 for file in outcome.adapter if file.path == "adapter_model.safetensors")


@pytest.mark.parametrize("quant", [{}, {"quant": "nf4", "double_quant": True}])
def test_a_run_that_streams_brings_the_same_bytes_also_when_it_was_stopped(make_job: MakeJob, quant: dict[str, Any]) -> None:
    """Loaded, probed, trained, evaluated, saved and read back; and once more, stopped on its way and gone on with."""
    whole = run(make_job("resident", strategy=msgspec.structs.replace(RECOMPUTED, **quant)))
    streamed = run(make_job("streamed", strategy=msgspec.structs.replace(STREAMED, **quant)))
    assert (whole.reason, streamed.reason) == (EndReason.COMPLETED, EndReason.COMPLETED), streamed.message
    job = make_job("stopped", strategy=msgspec.structs.replace(STREAMED, **quant))
    assert run(job, watch=Asked(20)).reason == EndReason.INTERRUPTED
    resumed = run(job)
    assert weights(resumed) == weights(streamed) == weights(whole)
    assert resumed.after == streamed.after == whole.after
    assert [sample.after for sample in streamed.samples] == [sample.after for sample in whole.samples]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_that_leaves_the_base_as_it_is_trains_the_same(method: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    said: dict[str, Any] = {"method": method, "rank": None, "target_modules": "all-linear"} | NEEDS.get(method, {})
    resident, streams = (msgspec.structs.replace(each, **said) for each in (RECOMPUTED, STREAMED))
    torch.manual_seed(0)
    config = CONFIG | {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "num_hidden_layers": 3}
    base = AutoModelForCausalLM.from_config(AutoConfig.for_model(config.pop("model_type"), **config))
    twin = copy.deepcopy(base)
    stream(twin, streams, "cpu")
    there, here = trained(base, resident), trained(twin, streams)
    assert there.keys() == here.keys()
    assert all(here[name].equal(tensor) for name, tensor in there.items())


def trained(model: Any, strategy: Strategy) -> dict[str, Any]:
    import torch

    torch.manual_seed(1)
    model = adapt(model, strategy, Loop())
    settle(model)
    checkpoint_activations(base_of(model), strategy)
    model.train()
    optimizer, settings = build_optimizer(strategy, model, Loop()), settings_of(strategy, "cpu", 1.0)
    torch.manual_seed(2)
    short = msgspec.structs.replace(strategy, seq_len=12)
    for _ in range(3):
        step(model, random_batch(short, vocabulary=320, device="cpu"), optimizer, settings)
    return {name: parameter.detach().clone() for name, parameter in trainable(model)}


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ({"gradient_checkpointing": "off"}, "offload=stream without gradient_checkpointing"),
        ({"method": "pissa"}, "offload=stream under method=pissa"),
        ({"streaming": msgspec.structs.replace(PASSING, num_visits=2)}, "num_visits=2"),
        ({"streaming": msgspec.structs.replace(PASSING, num_visits=0)}, "num_visits=0"),
        ({"streaming": msgspec.structs.replace(PASSING, num_blocks_without_recompute=-1)}, "num_blocks_without_recompute=-1"),
        ({"streaming": msgspec.structs.replace(PASSING, num_resident_blocks=-1)}, "num_resident_blocks=-1"),
    ],
)
def test_what_cannot_stream_is_refused_in_one_sentence_before_anything_is_loaded(
    make_job: MakeJob, said: dict[str, Any], word: str
) -> None:
    strategy = msgspec.structs.replace(STREAMED, **said)
    assert CAPABILITIES.missing(strategy) == (word,)
    outcome = run(make_job(strategy=strategy))
    assert (outcome.reason, outcome.message) == (EndReason.BAD_JOB, f"this trainer can't do {word}")


def test_a_run_whose_blocks_wait_on_the_disk_brings_the_same_bytes_and_says_how_fast_it_was(make_job: MakeJob) -> None:
    """All of them, packed: loaded, probed, trained, evaluated, saved and read back. Nothing of them is left behind."""
    packed = {"quant": "nf4", "double_quant": True}
    below = Streaming(num_slots=1, num_resident_blocks=0, num_visits=1, num_blocks_without_recompute=0, num_disk_blocks=9)
    streams = msgspec.structs.replace(STREAMED, **packed)
    job = make_job("disk", strategy=msgspec.structs.replace(streams, streaming=below), planned_read_bytes_per_s=1e15)
    on_disk = run(job)
    assert on_disk.reason == EndReason.COMPLETED, on_disk.message
    assert weights(on_disk) == weights(run(make_job("ram", strategy=streams)))
    events = [msgspec.json.decode(line) for line in job.with_name("events.jsonl").read_bytes().splitlines()]
    told = {event["kind"]: event["data"] for event in events if event["kind"] in ("preflight", "probe")}
    assert told["preflight"]["planned_read_bytes_per_s"] == 1e15
    assert all(told[kind]["disk_read_bytes_per_s"] > 0 for kind in told)
    warned = [event["data"]["message"] for event in events if event["kind"] == "warning"]
    assert sum("the disk gives" in message for message in warned) == len(told)
    assert not list(job.parent.glob(".blocks-*"))
