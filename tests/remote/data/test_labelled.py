"""Labelled rows: how they are read, encoded, split, and what is done about classes that are not alike in number."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote.contract import Balance, DataSource
from remote.data.batches import Drawn, epoch_order
from remote.data.check import BYTES, check_data, counter_of
from remote.data.classes import encode_classes, oversampled, row_shares, stratified
from remote.data.labelled import Class, Labelled, NoClasses, class_weights, classes_of, require_classes
from remote.data.rows import read_rows
from remote.data.split import Data, load_data
from remote.data.tokens import Example
from remote.ends import Ended

BOTH = (Class("bad", 6), Class("good", 2))


def read(tmp_path: Path, *rows: dict[str, Any]) -> tuple[list[Any], list[str]]:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_rows(tmp_path / "rows.jsonl", kind="classification")
    return list(found.rows), [str(broken) for broken in found.broken]


@pytest.mark.parametrize(
    ("record", "row"),
    [
        ({"text": "fine", "label": "good"}, Labelled(text="fine", label="good")),
        ({"sentence": "fine", "label": 1}, Labelled(text="fine", label="1")),
        ({"review": "fine", "category": True}, Labelled(text="fine", label="true")),
        ({"text_a": "a", "text_b": "b", "label": "same"}, Labelled(text="a", pair="b", label="same")),
        ({"premise": "a", "hypothesis": "b", "label": 0}, Labelled(text="a", pair="b", label="0")),
        ({"question1": "a", "question2": "b", "class": "x"}, Labelled(text="a", pair="b", label="x")),
    ],
)
def test_texts_and_pairs_are_read_by_the_names_that_people_use(tmp_path: Path, record: dict[str, Any], row: Labelled) -> None:
    assert read(tmp_path, record) == ([row], [])


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"text": "fine"}, 'no label (found: text); use "text" and "label"'),
        ({"text": "fine", "Label": "x"}, "header 'Label': did you mean 'label'?"),
        ({"label": "x", "body": "y"}, "no known keys of a text (found: body, label)"),
        ({"text": " ", "label": "x"}, '"text" is empty'),
        ({"text": 3, "label": "x"}, '"text" must be text'),
        ({"text": "a", "label": 0.5}, '"label" must name one class'),
        ({"text": "a", "label": ["x"]}, '"label" must name one class'),
        ({"text": "a", "label": ""}, '"label" must name one class'),
    ],
)
def test_a_row_without_text_or_class_is_broken_and_says_why(tmp_path: Path, record: dict[str, Any], why: str) -> None:
    rows, (broken,) = read(tmp_path, record)
    assert rows == []
    assert broken.startswith("rows.jsonl:1: ")
    assert why in broken


def test_classes_stand_in_the_order_of_their_names_and_numbers_of_their_size() -> None:
    rows = [Labelled(text="t", label=label) for label in ("10", "b", "9", "a", "9", "-1")]
    assert classes_of(rows) == (Class("-1", 1), Class("9", 2), Class("10", 1), Class("a", 1), Class("b", 1))


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        (["a"] * 3, "every row has the same label, a"),
        ([str(number) for number in range(5)], "no label stands in two rows"),
        ([str(number // 2) for number in range(4_000)], "2,000 different labels are no classes"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels: list[str], why: str) -> None:
    with pytest.raises(NoClasses, match=why):
        require_classes(classes_of(Labelled(text="t", label=label) for label in labels))


def test_balanced_classes_weigh_alike_and_a_row_one_in_the_mean() -> None:
    weights = class_weights(BOTH, "class_weights")
    assert [weight * each.rows for weight, each in zip(weights, BOTH, strict=True)] == [4, 4]
    assert class_weights(BOTH, "none") == (1, 1)


@given(st.lists(st.sampled_from("aaabbc"), min_size=3, max_size=60), st.integers(0, 20), st.integers(0, 9))
def test_no_class_is_only_judged_by(labels: list[str], num_held_out: int, seed: int) -> None:
    """Of each some rows are left to learn from, whatever is kept back; as many as asked, where they are there."""
    chosen = stratified(labels, num_held_out, seed)
    kept = [label for place, label in enumerate(labels) if place not in chosen]
    assert set(kept) == set(labels)
    assert len(chosen) == min(num_held_out, len(labels) - len(set(labels)))


def test_of_each_class_its_share_is_held_out() -> None:
    labels = ["a"] * 80 + ["b"] * 20
    chosen = stratified(labels, 20, 1)
    assert Counter(labels[place] for place in chosen) == {"a": 16, "b": 4}


def examples(**counts: int) -> tuple[Example, ...]:
    return tuple(
        Example(ids=np.asarray([number, place], dtype=np.int32), labels=np.asarray([number], dtype=np.int32), num_targets=1)
        for number, count in enumerate(counts.values())
        for place in range(count)
    )


def test_oversampling_shows_every_class_as_often_and_each_row_of_one_as_often_as_another_or_once_more() -> None:
    rows = oversampled(examples(common=10, rare=4, rarest=1), seed=1)
    assert Counter(int(row.labels[0]) for row in rows) == {0: 10, 1: 10, 2: 10}
    assert set(Counter(tuple(row.ids) for row in rows if row.labels[0] == 1).values()) == {2, 3}
    assert [tuple(row.ids) for row in rows] == [tuple(row.ids) for row in oversampled(examples(a=10, b=4, c=1), seed=1)]


def test_weighted_sampling_draws_every_class_as_often_in_the_long_run() -> None:
    rows = examples(common=90, rare=10)
    shares = row_shares(rows)
    assert sum(shares) == pytest.approx(1)
    drawn = Counter(
        int(rows[place].labels[0]) for epoch in range(40) for place in epoch_order(100, epoch, 3, Drawn(shares=shares))
    )
    assert drawn[1] / sum(drawn.values()) == pytest.approx(0.5, abs=0.03)


# ── through the tokenizer ──────────────────────────────────────────────────────────────────────────────────────────

PAIRS = [Labelled(text="abcdef", pair="xy", label="good"), Labelled(text="a", label="bad")]


def test_a_pair_that_is_too_long_loses_of_its_longer_text(byte_tokenizer: Any) -> None:
    (example, _) = encode_classes(PAIRS, byte_tokenizer, 5, classes=BOTH).examples
    assert (byte_tokenizer.decode(example.ids), example.labels.tolist(), example.num_targets) == ("abcxy", [1], 1)


@pytest.mark.parametrize(("long_rows", "numbers"), [(None, (2, 1, ())), ("cut", (2, 1, ())), ("drop", (1, 0, (0,)))])
def test_long_rows_are_cut_or_dropped(byte_tokenizer: Any, long_rows: Any, numbers: tuple[Any, ...]) -> None:
    found = encode_classes(PAIRS, byte_tokenizer, 5, classes=BOTH, long_rows=long_rows)
    assert (len(found.examples), found.truncated, found.dropped) == numbers
    assert found.longest_tokens == 8


def loaded(tmp_path: Path, tokenizer: Any, labels: list[str], *, judged: list[str] | None = None, **source: Any) -> Data:
    def write(name: str, these: list[str]) -> str:
        place = tmp_path / name
        place.write_text("".join(json.dumps({"text": f"row {n}", "label": each}) + "\n" for n, each in enumerate(these)))
        return str(place)

    held_out = write("judged.jsonl", judged) if judged is not None else None
    data = DataSource(train=write("rows.jsonl", labels), held_out=held_out, held_out_rows=10, **source)
    return load_data(data, tokenizer, seq_len=64, seed=1, warn=lambda **_: None, task="classification")


@pytest.mark.parametrize(("balance", "shown"), [("none", 40), ("oversampling", 64), ("weighted_sampling", 40)])
def test_what_is_shown_in_an_epoch_follows_the_balance(
    tmp_path: Path, byte_tokenizer: Any, balance: Balance, shown: int
) -> None:
    data = loaded(tmp_path, byte_tokenizer, ["a"] * 40 + ["b"] * 10, balance=balance)
    assert (len(data.train), len(data.held_out), bool(data.row_shares)) == (shown, 10, balance == "weighted_sampling")
    assert data.classes == (Class("a", 32), Class("b", 8))


def test_a_label_that_is_judged_and_never_learned_is_refused_with_its_line(tmp_path: Path, byte_tokenizer: Any) -> None:
    with pytest.raises(Ended, match=r'judged.jsonl, line 2: the label "c" stands in no row to learn from'):
        loaded(tmp_path, byte_tokenizer, ["a", "b"] * 4, judged=["a", "c"])


def test_labels_that_are_no_classes_end_the_job(tmp_path: Path, byte_tokenizer: Any) -> None:
    with pytest.raises(Ended, match=r"rows\.jsonl: every row has the same label"):
        loaded(tmp_path, byte_tokenizer, ["a"] * 8)


def test_a_look_at_labelled_rows_counts_what_the_trainer_sees(tmp_path: Path, byte_tokenizer: Any) -> None:
    """By the tokenizer, and as bytes without one; with each label, its rows and its first line."""
    read(tmp_path, {"text": "ab", "label": "x"}, {"text_a": "a", "text_b": "b", "label": "y"}, {"text": "a", "label": "x"})
    for counter in (BYTES, counter_of(byte_tokenizer)):
        report = check_data(tmp_path / "rows.jsonl", counter, kind="classification")
        assert (report.tokens, report.max_tokens, report.format) == (5, 2, "classification")
        assert report.classes == (("x", 2, 1), ("y", 1, 2))
        assert [piece.text for piece in report.seen[0].pieces] == ["ab", "x"]
