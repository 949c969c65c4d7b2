"""The demo's data are real, enough, and do not leak."""

from __future__ import annotations

import json

import pytest

from examples.demo.make_data import Pair, all_pairs, first_paragraph, render_jsonl, split


@pytest.fixture(scope="module")
def rows() -> tuple[list[Pair], list[Pair]]:
    """Training and held-out rows of the running Python."""
    return split(all_pairs())


def test_there_are_enough_rows(rows: tuple[list[Pair], list[Pair]]) -> None:
    """At least 200 held-out rows, so that a paired difference has a small error, and several times as many to train on."""
    train, held_out = rows
    assert len(held_out) >= 200
    assert len(train) >= 1000


def test_no_module_and_no_answer_stands_on_both_sides(rows: tuple[list[Pair], list[Pair]]) -> None:
    """What is asked after training was not seen in training."""
    train, held_out = rows
    assert {pair.module.partition(".")[0] for pair in train} & {pair.module.partition(".")[0] for pair in held_out} == set()
    assert {pair.response for pair in train} & {pair.response for pair in held_out} == set()


def test_no_question_is_asked_twice(rows: tuple[list[Pair], list[Pair]]) -> None:
    """Every prompt has one answer."""
    prompts = [pair.prompt for part in rows for pair in part]
    assert len(prompts) == len(set(prompts))


def test_the_same_python_gives_the_same_rows(rows: tuple[list[Pair], list[Pair]]) -> None:
    """Nothing depends on the order of a set or the hour of the day."""
    assert split(all_pairs()) == rows


def test_rows_are_the_trainers_instruction_format(rows: tuple[list[Pair], list[Pair]]) -> None:
    """Each line is one object with a prompt and a response."""
    lines = render_jsonl(rows[1]).splitlines()
    assert [sorted(json.loads(line)) for line in lines] == [["prompt", "response"]] * len(rows[1])


@pytest.mark.parametrize(
    ("docstring", "paragraph"),
    [
        ("Join two or more pathname components.\n\nMore.", "Join two or more pathname components."),
        ("join(a, *p) -> str\n\nJoin two or more\n    pathname components.", "Join two or more pathname components."),
        ("join(a, *p)\nJoin two or more pathname components.", "Join two or more pathname components."),
        ("Returns a list of the following three things:\n\n- a", "Returns a list of the following three things"),
        ("Too short.", None),
        ("no capital letter at the beginning of this one.", None),
        ("Join things. This name is deprecated since 3.4.", None),
        (":param a: what one would join.", None),
        ("", None),
    ],
)
def test_an_answer_is_one_paragraph_of_prose(docstring: str, paragraph: str | None) -> None:
    """Signatures are cut, lists and markup are left out."""
    assert first_paragraph(docstring, "join") == paragraph
