"""Rows between rows: SMOTE (Chawla et al. 2002, arXiv:1106.1813), over what a frozen base gives for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch

NEIGHBOURS: Final = 5  # derived: k of the paper
ROWS_AT_ONCE: Final = 1_024  # of whom distances are made; assumed: a few megabytes


def drawn_between(rows: torch.Tensor, classes: Sequence[int], seed: int) -> tuple[torch.Tensor, list[int]]:
    """As many new rows of each class as bring it to the commonest one's number: float32 [new, features], and their classes.

    Each lies between a row of its class, all of which have their turn in an order drawn by `seed`, and one of that row's five
    nearest neighbours of the same class, at a share of the way that is drawn evenly: x + u·(x' − x). A class of one row
    repeats it.
    """
    chance = torch.Generator().manual_seed(seed)
    of_class = {number: [place for place, each in enumerate(classes) if each == number] for number in sorted(set(classes))}
    most = max(map(len, of_class.values()))
    made: list[torch.Tensor] = []
    named: list[int] = []
    for number, places in of_class.items():
        missing = most - len(places)
        if missing:
            made.append(_between(rows[places].float(), missing, chance))
            named += [number] * missing
    return (torch.cat(made) if made else rows[:0].float()), named


def _between(own: torch.Tensor, count: int, chance: torch.Generator) -> torch.Tensor:
    turns = torch.cat([torch.randperm(len(own), generator=chance) for _ in range(-(-count // len(own)))])[:count]
    near = _neighbours(own)
    chosen = near[turns, torch.randint(near.shape[1], (count,), generator=chance)]
    share = torch.rand((count, 1), generator=chance)
    return own[turns] + share * (own[chosen] - own[turns])


def _neighbours(own: torch.Tensor) -> torch.Tensor:
    """int64 [rows, up to five]: the nearest others, by Euclidean distance; of a row alone itself."""
    if len(own) == 1:
        return torch.zeros((1, 1), dtype=torch.int64)
    found = []
    for start in range(0, len(own), ROWS_AT_ONCE):
        apart = torch.cdist(own[start : start + ROWS_AT_ONCE].double(), own.double())
        apart[torch.arange(len(apart)), torch.arange(start, start + len(apart))] = torch.inf  # not itself, but its twins
        found.append(apart.topk(min(NEIGHBOURS, len(own) - 1), largest=False).indices)
    return torch.cat(found)
