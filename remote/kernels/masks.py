"""What transformers looks at on the device before it makes a mask, answered by what the host knows."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

log = logging.getLogger(__name__)

LOOKS: Final = "find_packed_sequence_indices"  # of transformers.masking_utils (5.24): whether positions begin again in a row


@contextmanager
def rows_apart(*, packed: bool) -> Iterator[None]:
    """Within it no forward pass looks whether there are several texts in a row: the host knows what it has laid into one.

    transformers reads a number of each micro-batch's positions for it, and so waits until the card has done all that it was
    asked. Packed rows get the mask that keeps texts apart also where each of them holds a single one.
    """
    from transformers import masking_utils

    looks = getattr(masking_utils, LOOKS, None)
    if looks is None:
        _say_renamed()
        yield
        return
    setattr(masking_utils, LOOKS, _texts if packed else _one_text)
    try:
        yield
    finally:
        setattr(masking_utils, LOOKS, looks)


@cache
def _say_renamed() -> None:
    """Once: with another transformers a card waits at each micro-batch, and nothing else would show it."""
    log.warning("this transformers has no %s: it looks at each micro-batch on the device by itself, which waits for it", LOOKS)


def _one_text(_position_ids: Any) -> None:
    """Transformers' own answer for rows of one text each."""


def _texts(position_ids: Any) -> Any:
    """Which text of its row each token belongs to, int64 [sequences, tokens]: a new one wherever positions do not go on."""
    import torch

    before = torch.diff(position_ids, prepend=position_ids[:, :1] - 1, dim=-1)
    return (before != 1).cumsum(-1)
