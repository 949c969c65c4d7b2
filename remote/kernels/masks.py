"""What transformers looks at on the device before it makes a mask, answered by what the host knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

LOOKS: Final = "find_packed_sequence_indices"  # of transformers.masking_utils (5.24): whether positions begin again in a row


@contextmanager
def rows_apart(*, packed: bool) -> Iterator[None]:
    """Within it no forward pass looks for several texts in a row where the host laid none into one.

    transformers reads one number of each micro-batch's positions for it, and so waits until the card has done all that it was
    asked. Rows that hold several texts are looked at as before.
    """
    from transformers import masking_utils

    looks = getattr(masking_utils, LOOKS, None)
    if packed or looks is None:
        yield
        return
    setattr(masking_utils, LOOKS, _holds_one)
    try:
        yield
    finally:
        setattr(masking_utils, LOOKS, looks)


def _holds_one(_position_ids: Any) -> None:
    """Transformers' own answer for rows of one text each."""
