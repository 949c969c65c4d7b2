"""What a classification trains, by the planner's count and by the trainer's own model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from catalogs.bases.models import resolve_model
from planner.methods import trainable_params
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
