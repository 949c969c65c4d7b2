"""Methods of peft without a closed form: a trace answers for them, by peft's own defaults."""

from __future__ import annotations

import re

import pytest

from benchmarks.estimates.methods_of_peft import RESULT, TRACED_FAMILIES, traced_cell
from catalogs.catalog import read_catalog
from planner.asking.training_keys import check_training
from planner.estimate import answer
from planner.methods import METHODS
from planner.refusals import CaseError

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::UserWarning")]

TINY = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 128, "vocab_size": 320,
}  # fmt: skip


def test_every_method_of_peft_has_a_row() -> None:
    """Under its `peft_type`; so a later peft with a further method fails here."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    assert {kind.value.lower() for kind in PEFT_TYPE_TO_CONFIG_MAPPING} <= set(METHODS)


@pytest.mark.parametrize(("method", "family"), [("miss", "llama-3.2-1b"), ("road", "gpt2"), ("shira", "llama-3.2-1b")])
def test_the_committed_table_says_what_is_answered(method: str, family: str) -> None:
    """A sample of it: one that is traced, one that peft refuses, one that needs values."""
    rows = re.findall(rf"^\| {method} \|(.*)\|$", RESULT.read_text(), flags=re.MULTILINE)
    words = dict(zip(TRACED_FAMILIES, (cell.strip() for cell in rows[-1].split("|")), strict=True))
    assert traced_cell(method, family).words == words[family]


def test_an_estimate_falls_to_the_trace_and_says_so() -> None:
    made = answer({"model": TINY, "method": "miss", "rank": 4, "gpu": "L4", "seq_len": 64}, read_catalog(), None)
    assert made["engine"] == "trace"
    assert "engine: traced, because method miss has no closed form yet" in made["warnings"]
    assert "time: no speed is known of method miss" in made["warnings"]
    assert "time" not in made
    assert made["adapter_file_bytes"] == 4 * made["trainable_params"]


def test_what_no_trace_can_say_is_refused_with_the_reason() -> None:
    made = answer({"model": TINY, "method": "poly"}, read_catalog(), None)
    assert "task_ids should not be None" in made["error"]["message"]


def test_a_plan_says_how_to_estimate_such_a_method() -> None:
    with pytest.raises(CaseError, match="method miss has none") as refused:
        check_training("llama-3.2-1b", {"method": "miss"})
    assert refused.value.hint == "rentune estimate --model llama-3.2-1b --method miss traces one step of it"
