"""What a classification trains, by the planner's count and by the trainer's own model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.estimates.trace_cases import cut
from catalogs.bases.models import resolve_model
from planner.asking.case import read_case, strategy_of
from planner.estimators.trace.build import adapted, configured, skeleton
from planner.estimators.trace.recorder import Recorder
from planner.methods import total_params, trainable_params
from remote.contract import Loop, Strategy
from tests.remote.conftest import CONFIG
from tests.remote.test_classification import BERT

pytestmark = pytest.mark.torch

STRATEGIES = {
    "lora": Strategy(method="lora", rank=4, param_dtype="float32", autocast="none", padded=True),
    "dora": Strategy(method="dora", rank=4, param_dtype="float32", autocast="none", padded=True),
    "full": Strategy(method="full", param_dtype="float32", autocast="none", padded=True),
    "norms": Strategy(method="ln_tuning", param_dtype="float32", autocast="none", padded=True),
}


@pytest.mark.parametrize("config", [BERT, CONFIG], ids=["encoder", "decoder"])
@pytest.mark.parametrize("name", STRATEGIES)
def test_the_planner_counts_what_the_trainer_trains_to_tell_classes(tmp_path: Path, config: dict[str, Any], name: str) -> None:
    """The head with it. The base's files hold its pooler, as those of a pretrained encoder do."""
    from transformers import AutoConfig, AutoModel

    from remote.adapters import adapt
    from remote.bases.heads import ClassHead, load_classifier, settled, with_head

    (tmp_path / "config.json").write_text(json.dumps(config))
    AutoModel.from_config(AutoConfig.from_pretrained(tmp_path / "config.json")).save_pretrained(tmp_path / "base")
    strategy = STRATEGIES[name]
    loaded = load_classifier(str(tmp_path / "base"), strategy, "cpu", ClassHead(("no", "yes"), 0, 1))
    model = settled(adapt(loaded.model, with_head(strategy, loaded.fresh), Loop()), strategy, loaded.fresh)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    architecture = resolve_model(str(tmp_path / "config.json"), base=tmp_path)
    assert trained == trainable_params(architecture, strategy, task="classification")


FAMILIES = (
    *("roberta-base", "electra-base-discriminator", "distilbert-base-uncased", "bert-base-uncased", "deberta-v3-base"),
    *("xlm-roberta-base", "gpt2", "opt-350m", "qwen2.5-0.5b", "llama-3.2-1b"),
)
WAYS = ("lora", "dora", "adalora", "loha", "vera", "ia3", "bitfit", "ln_tuning", "full")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_that_tells_classes_apart_trains_as_many_as_peft_makes(family: str) -> None:
    """On every linear there is: of a base whose pooler nothing reads, that one has no adapter and no bias that trains."""
    config = cut(resolve_model(family).config, 1)
    architecture = resolve_model(config)
    biased = any(linear.bias for linear in architecture.linears)
    for method in (way for way in WAYS if way != "bitfit" or biased):
        if method in ("loha", "vera") and architecture.transposed_linears:
            continue  # peft can't hang them there
        said = {"model": config, "method": method, "param_dtype": "float32", "autocast": "none", "attention": "eager"}
        strategy = strategy_of(read_case(said))
        recorder = Recorder(device_type="meta", vocabulary=architecture.vocab_size, tokens=1)
        adapted(skeleton(configured(config), strategy, recorder, "classification"), strategy, recorder, "classification")
        assert (method, recorder.num_base) == (method, total_params(architecture, "classification"))
        assert (method, recorder.num_trained) == (method, trainable_params(architecture, strategy, task="classification"))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's own wrapper reads it
@pytest.mark.parametrize("family", ["roberta-base", "bert-base-uncased"])
def test_a_base_that_labels_tokens_has_no_pooler(family: str) -> None:
    """As transformers builds it and peft adapts it."""
    import peft
    import torch
    from transformers import AutoModelForTokenClassification

    config = cut(resolve_model(family).config, 1)
    with torch.device("meta"):
        model = AutoModelForTokenClassification.from_config(configured(config))
        asked = peft.LoraConfig(task_type="TOKEN_CLS", r=16, target_modules="all-linear", exclude_modules=["classifier"])
        trained = sum(each.numel() for each in peft.get_peft_model(model, asked).parameters() if each.requires_grad)
    architecture, strategy = resolve_model(config), strategy_of(read_case({"model": config, "method": "lora", "rank": 16}))
    assert trained == trainable_params(architecture, strategy, task="token_classification")
