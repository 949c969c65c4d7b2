"""The host's work by the closed form against a real step, traced: launches below autograd, block by block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import pytest
import torch

from catalogs.bases.models import resolve_model
from planner.asking.case import read_case, stack_of, strategy_of
from planner.estimators.time.launches import counted
from planner.estimators.time.timed import timed
from planner.estimators.trace import modes, tracing
from planner.estimators.trace.modes import recording as record
from planner.estimators.trace.recorder import Recorder, Stage
from planner.estimators.trace.repeats import Repeats
from planner.methods import ADAPTERS, LAUNCHES, METHODS

pytestmark = pytest.mark.torch

# Calls that move nothing: a tensor is looked at otherwise, or asked for.
FREE: Final = frozenset(
    {
        "view", "_unsafe_view", "t", "transpose", "expand", "detach", "alias", "slice", "unsqueeze", "squeeze", "as_strided",
        "permute", "split", "select", "unbind", "empty_like", "new_empty", "empty", "unfold", "split_with_sizes", "chunk",
        "narrow", "reshape", "_reshape_alias", "diagonal", "lift_fresh", "empty_strided", "new_empty_strided",
    }
)  # fmt: skip
DEPTHS: Final = (1, 2)  # what a block launches is the difference of two stacks
DEPTH_KEYS: Final = ("num_hidden_layers", "n_layer", "n_layers")


@contextmanager
def counting(patch: pytest.MonkeyPatch) -> Iterator[Counter[Stage]]:
    """What a trace launches, by stage. What clipping does is left out: on a card it is one kernel, not one a tensor."""
    found: Counter[Stage] = Counter()
    at: dict[str, Any] = {"clips": False}

    class Counting(Repeats):
        def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            note(func._schema.name)
            return super().run(func, args, kwargs)

    def note(name: str) -> None:
        if name.removeprefix("aten::") not in FREE and not at["clips"]:
            found[at["recorder"].stage] += 1

    def recording(recorder: Recorder, *, padded: bool) -> Any:
        at["recorder"] = recorder
        return record(recorder, padded=padded)

    def adds(*args: Any, **options: Any) -> bool:
        in_place = adds_in_place(*args, **options)
        if in_place:
            note("aten::add_")
        return in_place

    def clipping(*args: Any, **options: Any) -> Any:
        at["clips"] = True
        try:
            return clip(*args, **options)
        finally:
            at["clips"] = False

    adds_in_place, clip = modes._adds_in_place, torch.nn.utils.clip_grad_norm_
    with patch.context() as here:
        here.setattr(modes, "Repeats", Counting)
        here.setattr(tracing, "recording", recording)
        here.setattr(modes, "_adds_in_place", adds)
        here.setattr(torch.nn.utils, "clip_grad_norm_", clipping)
        yield found


def shortened(config: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """The same base with so many blocks."""
    kinds = {"layer_types": config["layer_types"][:depth]} if config.get("layer_types") else {}
    return {key: depth if key in DEPTH_KEYS else value for key, value in config.items()} | kinds


def traced(said: Mapping[str, Any], depth: int, patch: pytest.MonkeyPatch) -> float:
    case = read_case(said)
    config = shortened(resolve_model(case.model).config, depth)
    with counting(patch) as found:
        tracing.traced(config, strategy_of(case), compute_capability=(9, 0))
    return found[Stage.FORWARD] + found[Stage.BACKWARD]


def planned(said: Mapping[str, Any], depth: int) -> float:
    case = read_case(said)
    base = resolve_model(shortened(resolve_model(case.model).config, depth))
    return counted(timed(base, strategy_of(case), stack_of(case), task=case.task, mean_seq_len=case.seq_len)).launches


LLAMA: Final[dict[str, Any]] = {"model": "llama-3.2-1b", "seq_len": 512}
EAGER: Final[dict[str, Any]] = {"attention": "eager"}
BASES: Final[dict[str, dict[str, Any]]] = {
    "qwen2.5-1.5b": {},
    "qwen3-1.7b": {},
    "gemma-2-2b": EAGER,
    "gemma-3-1b": EAGER,
    "gpt2": {},
    "phi-3-mini": {},
    "olmo-2-1b": {},
    "pythia-1.4b": {},
    "opt-1.3b": {},
    "bloom-1b1": EAGER,
    "stablelm-2-1.6b": {},
    "phi-2": {},
    "falcon-7b": {},
    "mpt-1b": {},
    "starcoder2-3b": {},
    "gpt-j-6b": {},
    "granite-3.0-1b-a400m": {"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]},
}
WAYS: Final[dict[str, dict[str, Any]]] = {
    **{name: {"method": name} for name in ("full", "lora", "dora", "adalora", "loha", "lokr", "oft", "boft", "vera", "ia3")},
    "fourierft": {"method": "fourierft"},
    "ln_tuning": {"method": "ln_tuning"},
    "bottleneck": {"method": "bottleneck", "rank": 16},
    "prompt_tuning": {"method": "prompt_tuning", "num_virtual_tokens": 8},
    "prefix_tuning": {"method": "prefix_tuning", "num_virtual_tokens": 8, "gradient_checkpointing": "off"},
    "kept": {"gradient_checkpointing": "off"},
    "reentrant": {"gradient_checkpointing": "reentrant"},
    "eager": EAGER,
    "padded": {"padded": True},
    "dropout": {"dropout": 0.1},
    "inputs as they come": {"method_options": {"cast_input_dtype": False}},
    "16 bits": {"adapter_dtype": "bfloat16", "autocast": "none"},
    "mixed": {"method": "full", "param_dtype": "float32"},
    "nf4": {"quant": "nf4", "kbit_upcast": "none"},
    "nf4, norms in fp32": {"quant": "nf4", "kbit_upcast": "norms"},
}
CASES: Final = {
    **{name: {"model": name, "seq_len": 512, **more} for name, more in BASES.items()},
    **{name: {**LLAMA, **more} for name, more in WAYS.items()},
}


def test_every_adapter_has_its_launches() -> None:
    assert LAUNCHES.keys() == ADAPTERS.keys()
    assert {kind for name in WAYS if (method := METHODS.get(name)) and method.adapter for kind in [method.adapter.kind]} == {
        *LAUNCHES
    }, "each stands among the cases"


@pytest.mark.parametrize("name", CASES)
def test_a_block_launches_what_a_trace_shows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To 12 %: a release of transformers writes a copy more or less."""
    said = CASES[name]
    few, many = DEPTHS
    shown = traced(said, many, monkeypatch) - traced(said, few, monkeypatch)
    assert planned(said, many) - planned(said, few) == pytest.approx(shown, rel=0.12)
