"""Methods on families of every kind: what the committed table says, and samples of it trained for real."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.training.method_cases import FAMILIES, refusal_of, tried
from benchmarks.training.methods_by_family import REFUSED, RESULT
from planner.methods import supported_methods
from remote.contract import CAPABILITIES

CELLS = {
    (method, family): cell
    for line in RESULT.read_text().splitlines()
    if (found := re.fullmatch(r"\| (\w+) \| (.+) \|", line)) and found[1] != "method"
    for method, row in [(found[1], found[2])]
    for family, cell in zip(FAMILIES, row.split(" | "), strict=True)
}


def test_the_table_has_every_method_that_is_planned_on_every_family() -> None:
    assert set(CELLS) == {(method, family) for method in supported_methods() for family in FAMILIES}
    assert {method for method, _ in CELLS} == set(CAPABILITIES.methods)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_the_table_says_is_refused_is_refused_with_its_reason_and_nothing_else_is(family: str) -> None:
    text = RESULT.read_text()
    for method in supported_methods():
        why = refusal_of(family, method)
        assert (CELLS[method, family] == REFUSED) == (why is not None), (method, why)
        assert why is None or f"{why.rstrip('.')}." in text


def test_nothing_in_the_table_is_wrong() -> None:
    """A failure, a tensor that stayed or a count of another size would stand there in bold."""
    assert all(cell == REFUSED or re.fullmatch(r"[\d,]+", cell) for cell in CELLS.values())


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")  # peft says things to nobody in particular
@pytest.mark.parametrize(
    ("family", "method"),
    [
        *(("t5", method) for method in CAPABILITIES.paired),
        *((family, "lora") for family in FAMILIES if family != "t5"),
        ("bert", "ln_tuning"),
        ("gpt_neox", "full"),
        ("mixtral", "full"),
    ],
)
def test_a_pair_of_the_table_does_what_it_says(family: str, method: str, tmp_path: Path) -> None:
    """GPT-NeoX's head and Mixtral's experts have other names in files than in the model."""
    found = tried(family, method, tmp_path)
    assert f"{found.params:,}" == CELLS[method, family]
    assert (found.counts_agree, found.all_moved, found.learns) == (True, True, True)
    assert found.off < 1e-5
