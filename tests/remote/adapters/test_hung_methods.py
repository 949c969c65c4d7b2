"""Every method that hangs on linears trains for real: all of it moves, the loss falls, and the files give it back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from remote.adapters import adapt
from remote.checkpoints.checkpoint import trainable
from remote.contract import DataSource, JobSpec, Loop, ModelSource, Strategy
from remote.data.batches import MicroBatch
from remote.result.save import save_weights
from remote.result.verify import sums_of, verify
from remote.step import settings_of, step
from remote.training.optimizers import build_optimizer
from tests.remote.conftest import CONFIG, STRATEGY, changed

pytestmark = [  # peft 0.21 says things to nobody in particular
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

STOPS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": CONFIG | STOPS,
    "bert": {
        "model_type": "bert", "is_decoder": True, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "vocab_size": 320, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    } | STOPS,
}  # fmt: skip
FIELDS: dict[str, dict[str, Any]] = {
    "rslora": {},
    "pissa": {},
    "lora_plus": {"method_options": {"loraplus_lr_ratio": 4}},
    "adalora": {"method_options": {"init_r": 6}},
    "dora": {},
    "loha": {},
    "lokr": {},
    "oft": {"rank": None, "method_options": {"oft_block_size": 16, "init_weights": False}},
    "boft": {"rank": None, "method_options": {"init_weights": False}},
    "vera": {},
    "fourierft": {"rank": None, "method_options": {"n_frequency": 50}},
    "ia3": {"rank": None},
}
STEPS = 8


def batch() -> list[MicroBatch]:
    import torch

    torch.manual_seed(1)
    ids = torch.randint(5, 300, (2, 16))
    return [MicroBatch(input_ids=ids, labels=ids, attention_mask=None, num_targets=2 * 15)]


def base_of(family: str) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(**FAMILIES[family]))


def strategy_of(method: str) -> Strategy:
    return changed(STRATEGY, method=method, target_modules="all-linear", **FIELDS[method])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", FIELDS)
def test_a_method_trains_saves_and_comes_back(method: str, family: str, tmp_path: Path, byte_tokenizer: Any) -> None:
    strategy = strategy_of(method)
    model = adapt(base_of(family), strategy, Loop())
    before, settings = sums_of(model), settings_of(strategy, "cpu", 1.0)
    optimizer = build_optimizer(strategy, model, Loop(learning_rate=2e-2))
    model.train()
    losses = [float(step(model, batch(), optimizer, settings).loss) for _ in range(STEPS)]
    assert losses[-1] < losses[0]
    source = ModelSource(kind="folder", location="base", name="base")
    spec = JobSpec(run_id="r", model=source, data=DataSource(train="data.jsonl"), strategy=strategy, loop=Loop())
    save_weights(tmp_path, model, byte_tokenizer, spec)
    found = verify(tmp_path, model, batch()[0], settings, strategy, before)
    assert found.moved_tensors == found.trainable_tensors == len(before)
    assert found.max_change > 0


def test_what_does_not_move_is_not_trained() -> None:
    model = adapt(base_of("llama"), strategy_of("vera"), Loop())
    assert {name.rpartition(".default")[0].rpartition(".")[2] for name, _ in trainable(model)} == {
        "vera_lambda_b",
        "vera_lambda_d",
    }
