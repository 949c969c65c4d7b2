"""What was probably meant by a word that is none of ours."""

from __future__ import annotations

import pytest

from planner.nearest import SAID_FOR, nearest

QUANTS = ("none", "int8", "nf4", "fp4")


@pytest.mark.parametrize(
    ("said", "known", "answer"),
    [
        ("NF4", QUANTS, 'did you mean "nf4"?'),
        ("QLoRA", ("lora", "qlora", "full"), 'did you mean "qlora"?'),
        ("int4", QUANTS, 'did you mean "nf4"?'),
        ("4bit", QUANTS, 'did you mean "nf4"?'),
        ("adamw", ("adamw_8bit", "adamw_torch_fused"), 'did you mean "adamw_torch_fused"?'),
        ("lr", ("epochs", "learning_rate"), 'did you mean "learning_rate"?'),
        ("lr", ("epochs",), "one of epochs"),
        ("zebra", QUANTS, "one of none, int8, nf4, fp4"),
    ],
)
def test_the_nearest_word_is_the_one_that_is_meant(said: str, known: tuple[str, ...], answer: str) -> None:
    """Whatever its case, and where people have another word for it."""
    assert nearest(said, known) == answer


def test_other_words_are_kept_in_lower_case() -> None:
    """As they are looked up."""
    assert [word for word in SAID_FOR if word != word.lower()] == []
