"""Every method trains for real: what it says it trains moves, the loss falls, and the files give the same model back."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from catalogs.bases.models import resolve_model
from planner.methods import METHODS, trainable_params
from remote.adapters import ADAPTERS, adapt
from remote.checkpoints.checkpoint import trainable
from remote.contract import DataSource, JobSpec, Loop, ModelSource, Strategy
from remote.data.batches import MicroBatch
from remote.ends import Ended
from remote.result.save import save_companions, save_weights
from remote.result.verify import sums_of, verify
from remote.step import settings_of, step
from remote.training.optimizers import build_optimizer
from tests.remote.conftest import CONFIG, STRATEGY

pytestmark = [  # peft 0.21 says things to nobody in particular
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Unsupported layer type:UserWarning"),
    pytest.mark.filterwarnings("ignore:You are trying to modify a model with PEFT:UserWarning"),
]

GPT2: dict[str, Any] = {
    "model_type": "gpt2", "n_embd": 32, "n_layer": 3, "n_head": 4, "vocab_size": 320, "n_positions": 128,
    "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
FAMILIES = {"llama": CONFIG | {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}, "gpt2": GPT2}
BIASES = {"attention_bias": True, "mlp_bias": True}  # a Llama has biases only if it is told so

# What a method needs beside the smallest strategy.
FIELDS: dict[str, dict[str, Any]] = {
    "lora": {"rank": 4},
    "prompt_tuning": {"num_virtual_tokens": 6},
    "p_tuning": {"num_virtual_tokens": 6},
    "p_tuning, LSTM": {"num_virtual_tokens": 6, "method_options": {"encoder_reparameterization_type": "LSTM"}},
    "prefix_tuning": {"num_virtual_tokens": 6},
    "prefix_tuning, projected": {"num_virtual_tokens": 6, "method_options": {"prefix_projection": True}},
    "lora_prompt": {"rank": 4, "num_virtual_tokens": 6},
    "bottleneck": {"rank": 8},
    "bottleneck, attention": {"rank": 8, "method_options": {"after": ["attention"], "non_linearity": "gelu"}},
    "ln_tuning": {},
    "bitfit": {},
    "freeze": {"trainable_layers": 1},
    "freeze, some modules": {"trainable_layers": 1, "method_options": {"modules": ["mlp"]}},
    "full": {},
}
STEPS = 12


def strategy_of(case: str, **more: Any) -> Strategy:
    fields = {"method": case.partition(",")[0], "rank": None, "target_modules": "all-linear"} | FIELDS[case] | more
    return msgspec.structs.replace(STRATEGY, **fields)


def model_of(config: dict[str, Any]) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    said = dict(config)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(said.pop("model_type"), **said))


def config_of(family: str, case: str) -> dict[str, Any]:
    return FAMILIES[family] | (BIASES if case == "bitfit" and family == "llama" else {})


def batch() -> list[MicroBatch]:
    import torch

    torch.manual_seed(1)
    ids = torch.randint(5, 300, (2, 16))
    return [MicroBatch(input_ids=ids, labels=ids, attention_mask=None, num_targets=2 * 15)]


def overfitted(model: Any, strategy: Strategy) -> list[float]:
    """Losses of a few steps over one batch."""
    optimizer = build_optimizer(strategy, model, Loop(learning_rate=2e-2))
    settings = settings_of(strategy, "cpu", 1.0)
    model.train()
    return [float(step(model, batch(), optimizer, settings).loss) for _ in range(STEPS)]


def spec_of(strategy: Strategy, base: str = "base", loop: Loop | None = None) -> JobSpec:
    source = ModelSource(kind="folder", location=base, name=base)
    return JobSpec(run_id="r", model=source, data=DataSource(train="data.jsonl"), strategy=strategy, loop=loop or Loop())


def test_every_method_is_tried_that_is_not_one_of_many_on_linears() -> None:
    hung = {name for name, row in METHODS.items() if row.adapter is not None and row.prompt is None} - {"lora"}
    assert {case.partition(",")[0] for case in FIELDS} == set(ADAPTERS) - hung


@pytest.mark.parametrize("case", FIELDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_method_trains_saves_and_comes_back(family: str, case: str, tmp_path: Path, byte_tokenizer: Any) -> None:
    config, strategy = config_of(family, case), strategy_of(case)
    model = adapt(model_of(config), strategy, Loop())
    before = sums_of(model)
    planned = trainable_params(resolve_model(config), strategy)
    assert sum(parameter.numel() for _, parameter in trainable(model)) == planned
    losses = overfitted(model, strategy)
    assert losses[-1] < losses[0]
    save_weights(tmp_path, model, byte_tokenizer, spec_of(strategy))
    found = verify(tmp_path, model, batch()[0], settings_of(strategy, "cpu", 1.0), strategy, before)
    assert found.moved_tensors == found.trainable_tensors == len(before)


def greedy(model: Any, ids: Any, count: int) -> list[int]:
    """Token by token, each time through the whole model, without a cache."""
    import torch

    for _ in range(count):
        with torch.no_grad():
            following = model(input_ids=ids, use_cache=False).logits[:, -1].argmax(-1)
        ids = torch.cat((ids, following[:, None]), dim=1)
    return [int(token) for token in ids[0, -count:]]


def the_try_script(folder: Path) -> Any:
    """The `try.py` of a result, as a module."""
    found = importlib.util.spec_from_file_location("tried", folder / "try.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.parametrize("case", FIELDS)
def test_the_folder_gives_the_trained_model_back_by_itself(
    case: str, tmp_path: Path, byte_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What try.py puts together on an untouched base says what the trained model says, and writes what that would write."""
    import torch

    config, strategy = config_of("llama", case), strategy_of(case)
    base, result, ids = tmp_path / "base", tmp_path / "result", batch()[0].input_ids[:1]
    model_of(config).save_pretrained(base)
    model = adapt(model_of(config), strategy, Loop())
    overfitted(model, strategy)
    model.eval()
    with torch.no_grad():
        trained = model(input_ids=ids, use_cache=False).logits
    save_weights(result, model, byte_tokenizer, spec_of(strategy, str(base)))
    save_companions(result, spec_of(strategy, str(base)), "")
    script, how = the_try_script(result), json.loads((result / "rentune.json").read_text())
    monkeypatch.syspath_prepend(str(result))
    again, _ = script.load(str(base if how["base"] else result), how, with_adapter=True)
    with torch.no_grad():
        said = again(input_ids=ids, use_cache=False).logits
    assert torch.allclose(said, trained, atol=1e-5)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    config_of_generation = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    written = script.new_tokens(again, inputs, **config_of_generation)
    assert [int(token) for token in written[0]] == greedy(again, ids, 5)


def test_a_system_prompt_stands_before_the_question_as_in_the_rows(tmp_path: Path, byte_tokenizer: Any) -> None:
    from remote.data.tokens import ready

    ready(byte_tokenizer)
    save_companions(tmp_path, spec_of(strategy_of("lora"), "base"), "")
    script, seen = the_try_script(tmp_path), []

    class Reader:
        """A stand-in for a model, which only keeps what it was given to read."""

        device = "cpu"
        config = SimpleNamespace(is_encoder_decoder=False)

        def generate(self, input_ids: Any, **_options: Any) -> Any:
            seen.append(byte_tokenizer.decode(input_ids[0]))
            return input_ids

    script.answer(Reader(), byte_tokenizer, "Why?", 8)
    script.answer(Reader(), byte_tokenizer, "Why?", 8, system="Be brief.")
    assert seen == ["Why?\n", "Be brief.\nWhy?\n"]


@pytest.mark.parametrize("case", ["ln_tuning", "bitfit", "bottleneck", "freeze", "lora_prompt"])
def test_chosen_blocks_are_trained_and_no_others(case: str) -> None:
    strategy = strategy_of(case)
    model = adapt(model_of(config_of("gpt2", case)), strategy, Loop(layers=(1,)))
    within = {name for name, _ in trainable(model) if "prompt_encoder" not in name}
    assert within
    assert all(".h.1." in name for name in within)


@pytest.mark.parametrize(
    ("case", "more", "loop", "words"),
    [
        ("prefix_tuning", {"gradient_checkpointing": "non_reentrant"}, Loop(), "can't train with gradient checkpointing"),
        ("prompt_tuning", {"num_virtual_tokens": None}, Loop(), "needs virtual tokens"),
        ("prompt_tuning", {}, Loop(layers=(0,)), "trains none"),
        ("p_tuning", {"method_options": {"hidden": 3}}, Loop(), '"hidden", which peft\'s PromptEncoderConfig'),
        ("bottleneck", {"method_options": {"after": ["head"]}}, Loop(), 'no after "head"'),
        ("bottleneck", {"rank": None}, Loop(), "needs the adapters' width"),
        ("freeze", {"trainable_layers": None}, Loop(), "set training.trainable_layers"),
        ("freeze", {"trainable_layers": 9}, Loop(), "has 2 blocks, and trainable_layers is 9; say 1 to 2"),
        ("freeze", {"method_options": {"modules": ["nowhere"]}}, Loop(), "matches nothing in a block"),
        ("bitfit", {}, Loop(), "nothing that method"),
    ],
)
def test_what_a_method_cannot_do_is_a_bad_job(case: str, more: dict[str, Any], loop: Loop, words: str) -> None:
    with pytest.raises(Ended, match=words):
        adapt(model_of(FAMILIES["llama"]), strategy_of(case, **more), loop)
