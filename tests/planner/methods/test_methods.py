"""What each method trains, against hand counts and against peft itself."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import planner
from catalogs.bases.models import resolve_model
from planner.asking.case import read_case, strategy_of
from planner.methods import METHODS, adapter_file_bytes, supported_methods, total_params, trainable_params
from planner.refusals import CaseError, CaseRefused, Unsupported
from remote.contract import Strategy
from tests.planner.builders import TINY_LLAMA


def trained(model: Any, **said: Any) -> int:
    return trainable_params(resolve_model(model), strategy_of(read_case({"model": model, **said})))


def test_targets_of_another_family_are_refused_with_the_names_that_exist() -> None:
    """`q_proj` and `v_proj` on BLOOM, whose projections are one linear."""
    names = "query_key_value, dense, dense_h_to_4h, dense_4h_to_h"
    with pytest.raises(CaseError, match=f"bloom has no module q_proj; its linears: {names}"):
        trained("bloom-560m", target_modules=["q_proj", "v_proj"])


def test_lora_trains_r_times_in_plus_out() -> None:
    """Rank 16 on the four attention projections of Mistral-7B: 13.6 million, by hand."""
    widths = (4096 + 4096) + 2 * (4096 + 1024) + (4096 + 4096)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
    assert trained("mistral-7b", rank=16, target_modules=targets) == 32 * 16 * widths


@pytest.mark.parametrize(
    ("said", "count"),
    [
        ({"method": "full"}, resolve_model(TINY_LLAMA).num_params),
        ({"method": "ln_tuning"}, 2 * 2 * 64 + 64),
        ({"method": "freeze", "trainable_layers": 1}, resolve_model(TINY_LLAMA).block_params),
        ({"method": "prompt_tuning", "num_virtual_tokens": 20}, 20 * 64),
        ({"method": "ia3", "target_modules": ["k_proj", "v_proj", "down_proj"]}, 2 * (32 + 32 + 128)),
        ({"method": "lora", "rank": 4, "target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, 2 * 4 * 128 + 320 * 64),
    ],
)
def test_each_method_by_hand(said: dict[str, Any], count: int) -> None:
    assert trained(TINY_LLAMA, **said) == count


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("lora", {"use_dora": False, "bias": "none", "rank_pattern": {}}),
        ("loha", {"module_dropout": 0.0, "rank_dropout": 0}),
        ("boft", {"boft_n_butterfly_factor": 1}),
    ],
)
def test_an_option_that_is_what_peft_does_anyway_changes_nothing(method: str, options: dict[str, Any]) -> None:
    assert trained(TINY_LLAMA, method=method, method_options=options) == trained(TINY_LLAMA, method=method)


@pytest.mark.parametrize("options", [{"use_dora": True}, {"bias": "all"}, {"rank_pattern": {"q_proj": 4}}])
def test_an_option_that_trains_more_is_not_passed_over(options: dict[str, Any]) -> None:
    with pytest.raises(Unsupported, match="has no closed form"):
        trained(TINY_LLAMA, method="lora", method_options=options)


@pytest.mark.parametrize(
    ("model", "said", "key"),
    [
        ("7b", {"target_modules": ["wq"]}, "target_modules"),
        ("phi-4", {"target_modules": "default"}, "target_modules"),
        ("llama-3.2-1b", {"method": "bitfit"}, "method"),
        ("gpt2", {"method": "oft"}, "method"),
    ],
)
def test_what_cannot_be_counted_is_refused_at_its_key(model: str, said: dict[str, Any], key: str) -> None:
    with pytest.raises(CaseError) as refused:
        trained(model, **said)
    assert refused.value.key == key


@pytest.mark.parametrize("method", ["lora", "dora", "adalora", "loha", "lokr", "vera"])
def test_a_higher_rank_trains_no_less_but_for_lokr(method: str) -> None:
    """Peft keeps LoKr's large factor whole from half of its longer side on, which is less than just below: 38 of 76 here."""
    ranks = range(30, 46)
    counts = [trained("qwen2.5-0.5b", method=method, rank=rank, target_modules=["up_proj"]) for rank in ranks]
    falls = [rank for rank, before, after in zip(ranks[1:], counts, counts[1:], strict=False) if after < before]
    assert falls == ([38] if method == "lokr" else [])


@pytest.mark.parametrize(("method", "key"), [("prompt_tuning", "num_virtual_tokens"), ("freeze", "trainable_layers")])
def test_a_case_need_not_say_how_many_and_a_strategy_must(method: str, key: str) -> None:
    """Every key of the contract has a default; what the box carries out is filled in, or refused."""
    said = strategy_of(read_case({"model": "7b", "method": method}))
    assert trainable_params(resolve_model("7b"), said) > 0
    with pytest.raises(CaseError) as refused:
        trainable_params(resolve_model("7b"), msgspec.structs.replace(said, **{key: None}))
    assert refused.value.key == key


def test_methods_without_a_closed_form_name_those_that_have_one() -> None:
    with pytest.raises(Unsupported, match="lora"):
        trained("7b", method="adaption_prompt")
    assert set(supported_methods()) == {name for name, method in METHODS.items() if method.trainable}


def names_compared(path: Path) -> set[str]:
    """Words that a file compares a method's name with."""
    compares = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Compare)]
    about = [node for node in compares if ast.unparse(node.left).endswith("method")]
    return {str(word.value) for node in about for word in ast.walk(node) if isinstance(word, ast.Constant)}


def test_only_the_table_tells_methods_apart() -> None:
    """A method is one row: the estimators read its fields, and none of them compares its name."""
    sources = sorted(Path(planner.__file__ or "").parent.rglob("*.py"))
    assert {path.name: names & set(METHODS) for path in sources if (names := names_compared(path)) & set(METHODS)} == {}


def test_a_method_reaches_parts_of_the_base_or_adds_to_it() -> None:
    """What follows from a row: whether all is trained, and what is trained in each block alike."""
    assert [name for name, row in METHODS.items() if row.moves_all] == ["full"]
    assert METHODS["freeze"].moves_linears
    assert METHODS["freeze"].moves_in_every_block == frozenset()
    assert METHODS["ln_tuning"].moves_in_every_block == {"norms"}
    assert [name for name, row in METHODS.items() if row.trainable and row.moves and (row.adapter or row.prompt)] == []


def test_every_method_cites_its_paper() -> None:
    assert all(
        "arXiv:" in row.paper or row.paper.startswith(("none", "LoRA beside")) for row in METHODS.values() if row.trainable
    )


def test_a_task_s_head_is_trained_beside_the_adapter() -> None:
    architecture = resolve_model("bert-base-uncased")
    strategy = Strategy(method="lora", rank=8, target_modules=("query", "value"))
    bare = trainable_params(architecture, strategy, task="embedding")
    assert trainable_params(architecture, strategy, task="classification") == bare + 2 * (768 + 1)


def test_an_untied_head_is_not_loaded_where_the_task_has_none() -> None:
    llama = resolve_model("llama-3-8b")
    assert total_params(llama, "embedding") == llama.num_params - 128256 * 4096


def test_the_adapter_file_is_its_parameters_and_a_small_header() -> None:
    architecture = resolve_model("mistral-7b")
    strategy = Strategy(method="lora", rank=16, target_modules=("q_proj", "k_proj", "v_proj", "o_proj"))
    body = trainable_params(architecture, strategy) * 4
    assert body < adapter_file_bytes(architecture, strategy) < body * 1.01


@given(rank=st.integers(1, 256), more=st.integers(1, 64))
def test_more_rank_trains_more(rank: int, more: int) -> None:
    assert trained(TINY_LLAMA, rank=rank) < trained(TINY_LLAMA, rank=rank + more)


def test_refusals_are_typed() -> None:
    assert issubclass(CaseError, CaseRefused)
    assert issubclass(Unsupported, CaseRefused)
