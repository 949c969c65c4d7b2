"""The comparison that a card is asked for, rehearsed: every row runs, and what is off is said."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.training import features
from remote.kernels import compiled

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]


def rehearsed(monkeypatch: pytest.MonkeyPatch, **rows: features.Row) -> tuple[str, bool]:
    import torch

    torch.compiler.reset()
    monkeypatch.setattr(compiled, "BACKEND", "aot_eager")  # forward and backward graphs; generated code takes a minute a row
    monkeypatch.setattr(features, "ROWS", rows or features.ROWS)
    return features.table("cpu", tiny=True)


@pytest.mark.long
def test_every_row_is_as_it_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    text, whole = rehearsed(monkeypatch)
    assert whole, text
    assert all(f"| {name} |" in text for name in features.ROWS)


@pytest.mark.parametrize("otherwise", [{"alpha": 8.0}, {"target_modules": "default"}])
def test_a_way_that_learns_something_else_is_found(monkeypatch: pytest.MonkeyPatch, otherwise: dict[str, Any]) -> None:
    text, whole = rehearsed(monkeypatch, other=features.Row({}, otherwise, 0.03))
    assert not whole
    assert "**no**" in text
