"""A quarter of the kill matrix on the real engine; `benchmarks/renting/kill_matrix.py` strikes all 48 times."""

from __future__ import annotations

import pytest

from tests.doubles.bench import Bench
from tests.provision.engine.matrix import MATRIX, MOMENTS, QUARTER, SIGNALS, TARGETS, Strike, broken_by


def test_the_quarter_is_fair() -> None:
    """Every signal meets every target, every moment is struck thrice, and the whole is whole."""
    assert len(set(MATRIX)) == len(SIGNALS) * len(TARGETS) * len(MOMENTS) == 48
    assert set(QUARTER) < set(MATRIX)
    assert len({(strike.number, strike.target) for strike in QUARTER}) == len(SIGNALS) * len(TARGETS)
    assert [sum((strike.deed, strike.moment) == moment for strike in QUARTER) for moment in MOMENTS] == [3, 3, 3, 3]


@pytest.mark.engine
@pytest.mark.parametrize("strike", QUARTER, ids=str)
@pytest.mark.fault("F3", tier="engine")
@pytest.mark.fault("F8", tier="engine")
@pytest.mark.fault("F25", tier="engine")
def test_whoever_is_struck_a_fresh_process_ends_it(strike: Strike, bench: Bench) -> None:
    """The cloud lists nothing by tag; the export is empty, no lock stays, and the files of a clean end are gone."""
    assert broken_by(strike, bench) == []
