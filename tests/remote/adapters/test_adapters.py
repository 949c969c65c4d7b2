"""From a method's name to something trainable."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from remote.adapters import ADAPTERS, configs
from remote.contract import CAPABILITIES, Loop, Strategy
from remote.ends import Ended


def test_the_table_is_what_the_trainer_says_it_can_do() -> None:
    assert tuple(ADAPTERS) == CAPABILITIES.methods


def test_the_table_imports_without_torch() -> None:
    code = "import sys, remote.adapters; print([name for name in ('torch', 'peft', 'transformers') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def config(layers: tuple[int, ...] | None = None, **fields: object) -> object:
    return configs.lora(Strategy(method="lora", **fields), Loop(layers=layers))  # type: ignore[arg-type]


@pytest.mark.torch
def test_a_lora_config_says_what_the_strategy_says() -> None:
    made = config((0,), rank=8, alpha=4.0, dropout=0.1, target_modules=("q_proj",), method_options={"use_rslora": True})
    assert vars(made) | {"r": 8, "lora_alpha": 4.0, "lora_dropout": 0.1, "target_modules": {"q_proj"}} == vars(made)
    assert vars(made) | {"layers_to_transform": [0], "use_rslora": True} == vars(made)


@pytest.mark.torch
def test_alpha_is_twice_the_rank_where_none_is_said() -> None:
    assert vars(config(rank=8))["lora_alpha"] == 16


@pytest.mark.torch
@pytest.mark.parametrize(
    ("fields", "words"),
    [({}, "needs a rank"), ({"rank": 4, "method_options": {"use_rslora_": True}}, '"use_rslora_"')],
)
def test_what_peft_would_trip_over_is_said_before(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(Ended, match=words):
        config(**fields)
