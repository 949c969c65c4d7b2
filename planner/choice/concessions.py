"""What an adapter may give up of what is advised, where nothing can be run with it. A table; docs/advice.md is made from it.

Each row allows at most so much. They stand from what a result feels least to what it feels most, each on top of those above it,
so that memory falls from row to row.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from planner.choice.recipes import LORA
from planner.choice.recipes import QLORA as QLORA_SOURCE

Reach = Literal["all", "attention", "query_value"]  # the linears that carry adapters, each a part of the one before

REACH_WORDS: Final[dict[Reach, str]] = {
    "all": "all linears",
    "attention": "the linears of attention alone",
    "query_value": "query and value alone",
}


class Concession(msgspec.Struct, frozen=True, kw_only=True):
    """The most that an adapter may have from here on."""

    rank: int
    reach: Reach
    reason: str
    source: str


_RANK: Final = "on all linears the rank hardly moved the results of its runs, from 8 to 256"
_EIGHT: Final = 8  # derived: the lowest rank that QLoRA tried on all linears

# derived from the source that each row names
CONCESSIONS: Final[tuple[Concession, ...]] = (
    *(Concession(rank=rank, reach="all", reason=_RANK, source=QLORA_SOURCE) for rank in (128, 64, 32, 16, _EIGHT)),
    Concession(
        rank=_EIGHT,
        reach="attention",
        reason="adapters on attention alone fall behind those on all linears, more than a lower rank does",
        source=QLORA_SOURCE,
    ),
    Concession(
        rank=_EIGHT,
        reach="query_value",
        reason="of attention's matrices these two, adapted together, gave the best results for their size",
        source=LORA,
    ),
    Concession(rank=4, reach="query_value", reason="on these two a rank of 4 did as well as 8 and 64 in its runs", source=LORA),
)
