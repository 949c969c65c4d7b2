"""What releases changed about memory: a table that estimates ask, and that the documents show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from catalogs.catalog import read_catalog
from planner.estimate import answer
from planner.strategy.stack import CHANGES, Stack

CATALOG = read_catalog()
DOCUMENT = Path(__file__).parents[3] / "docs/memory.md"


def ask(**said: Any) -> dict[str, Any]:
    return answer({"engine": "closed_form", **said}, CATALOG, None)


@pytest.mark.parametrize("change", CHANGES)
def test_a_release_has_what_came_with_it_and_not_what_came_later(change: str) -> None:
    library, since, _ = CHANGES[change]
    text = ".".join(map(str, since))
    assert Stack(versions={library: text}).has(change)
    assert Stack(versions={library: f"{text}.1"}).has(change)
    assert Stack().has(change)  # the pinned release is newer than every change
    assert not Stack(versions={library: "4.40"}).has(change)


def test_the_document_shows_the_table() -> None:
    text = DOCUMENT.read_text()
    for change in CHANGES.values():
        assert f"| {'.'.join(map(str, change.since))} | {change.before} |" in text


@pytest.mark.parametrize(
    ("change", "said", "lowers"),
    [
        ("shifted_labels", {"model": "1b", "micro_batch_size": 8}, True),
        ("kept_16_bit_logits", {"model": "1b", "micro_batch_size": 8}, False),
        ("grouped_sdpa", {"model": "8b", "gradient_checkpointing": "off", "loss": "liger"}, True),
        (
            "grouped_flash",
            {"model": "mistral-7b", "attention": "flash_attention_2", "gradient_checkpointing": "off", "loss": "liger"},
            True,
        ),
        (
            "bias_in_sdpa",
            {"model": "flan-t5-base", "task": "seq2seq", "gradient_checkpointing": "off", "micro_batch_size": 4},
            True,
        ),
        ("exact_linears", {"model": "falcon-7b", "method": "qlora"}, False),
        ("fused_experts", {"model": "mixtral-8x7b", "method": "qlora", "target_modules": "default"}, False),
        ("second_fsdp", {"model": "8b", "method": "full", "sharding": "fsdp", "num_gpus": 8}, False),
    ],
)
def test_each_change_moves_an_estimate(change: str, said: dict[str, Any], lowers: bool) -> None:
    """The release before it against the first that has it."""
    library, since, _ = CHANGES[change]
    before = {(4, 46): "4.45", (4, 48): "4.47", (4, 50): "4.49", (4, 54): "4.53", (5,): "4.57"}[since]
    older, newer = (
        ask(**said, versions={library: text})["vram"]["allocated_peak_bytes"] for text in (before, ".".join(map(str, since)))
    )
    assert (newer < older) if lowers else (newer > older)


def test_experts_that_were_linears_were_packed() -> None:
    """Mixtral 8x7B in nf4: 26 GB before transformers 5, and 90 since its experts are fused, which bitsandbytes passes over."""
    said = {"model": "mixtral-8x7b", "method": "qlora", "target_modules": ["q_proj", "v_proj"]}
    older = ask(**said, versions={"transformers": "4.57"})["vram"]["components"]["weights"]
    newer = ask(**said)["vram"]["components"]["weights"]
    assert 22e9 < older < 27e9
    assert newer > 85e9
    fused_always = {**said, "model": "granite-3.0-1b-a400m"}
    assert (
        ask(**fused_always, versions={"transformers": "4.57"})["vram"]["components"]["weights"]
        == ask(**fused_always)["vram"]["components"]["weights"]
    )


def test_what_a_release_reads_ahead_is_said_where_it_packs() -> None:
    told = {
        (quant, text): any(
            "ahead of packing" in warning
            for warning in ask(model="7b", quant=quant, versions={"transformers": text})["warnings"]
        )
        for quant in ("none", "nf4")
        for text in ("4.57", "5.0", "5.22.1", "5.23")
    }
    assert {key for key, value in told.items() if value} == {("nf4", "5.0"), ("nf4", "5.22.1")}
