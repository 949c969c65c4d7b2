"""Loading torch, transformers and peft is most of a trainer's start."""

from __future__ import annotations

import gc

import pytest

from remote.training.collector import uncollected


@pytest.mark.parametrize("was_on", [True, False])
def test_nothing_is_collected_while_libraries_are_loaded_and_then_it_is_as_before(was_on: bool) -> None:
    """Also where loading failed."""
    (gc.enable if was_on else gc.disable)()
    try:
        with pytest.raises(ImportError), uncollected():
            raise_without_collector()
        assert gc.isenabled() == was_on
    finally:
        gc.enable()


def raise_without_collector() -> None:
    assert not gc.isenabled()
    raise ImportError
