"""Where a higher rank makes a smaller adapter, that is said, and what it means."""

from __future__ import annotations

import pytest

from catalogs.bases.models import resolve_model
from planner.methods.counts import adapter_params
from planner.notices.ranks import rank_words
from remote.contract import Strategy

BASE = resolve_model("smollm2-135m")


def of(method: str, rank: int) -> Strategy:
    return Strategy(method=method, rank=rank, alpha=16.0, seq_len=512)


def test_a_rank_of_lokr_that_has_more_parameters_than_none_is_said_with_both() -> None:
    """Its factors are of 24 x 24 to 32 x 48 here: of rank 23 the longest is cut in two, and larger so."""
    cut, whole = of("lokr", 23), of("lokr", 24)
    assert adapter_params(BASE, cut) > adapter_params(BASE, whole)
    said = rank_words(BASE, cut)
    assert said == (
        f"by rank 23 lokr has {adapter_params(BASE, cut):,} parameters, by 24 or more {adapter_params(BASE, whole):,}: "
        "its factors are whole then"
    )
    assert rank_words(BASE, of("lokr", 4)) is None


def test_a_rank_of_lokr_that_cuts_nothing_is_said_to_be_idle() -> None:
    assert adapter_params(BASE, of("lokr", 24)) == adapter_params(BASE, of("lokr", 400))
    assert rank_words(BASE, of("lokr", 400)) == "rank has no effect here: from 24 on lokr's factors are whole"


def test_of_oft_a_rank_counts_blocks() -> None:
    assert adapter_params(BASE, of("oft", 16)) < adapter_params(BASE, of("oft", 4))
    assert "of oft rank counts the blocks" in (rank_words(BASE, of("oft", 16)) or "")


@pytest.mark.parametrize("method", ["lora", "loha", "dora"])
def test_of_others_nothing_is_said(method: str) -> None:
    assert rank_words(BASE, of(method, 64)) is None
