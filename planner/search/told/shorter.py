"""The longest sequences with which a machine that is refused would do the job: a remedy that does, when it is typed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from planner.asking.request import Changes
from planner.plan import PRICE_ONLY
from planner.search.figures import Figures
from planner.search.market.offers import Kind
from planner.search.ranking import Found, Question, on_kind
from planner.search.told.notebook import Notebook
from planner.search.ways.lengths import longest

MOST_KINDS: Final = 3  # assumed: of those nearest to it; where these do not, a length that does cuts more than anybody wants


def longest_that_does(kinds: Iterable[Kind], question: Question, figures: Figures) -> Changes:
    """As a change of the request: of the first of these machines on which a length does that leaves most rows whole; nothing
    where none does, or a length was said that is shorter still.
    """
    nearest = list(dict.fromkeys(map(id, kinds := tuple(kinds))))[:MOST_KINDS]
    for kind in (next(each for each in kinds if id(each) == known) for known in nearest):

        def does(seq_len: int, kind: Kind = kind) -> bool:
            return _does(seq_len, kind, question, figures)

        if (seq_len := longest(question.request.data, does, below=question.seq_len)) is not None:
            return {"training.seq_len": seq_len}
    return {}


def _does(seq_len: int, kind: Kind, question: Question, figures: Figures) -> bool:
    request = question.request
    shorter = msgspec.structs.replace(
        question,
        request=msgspec.structs.replace(request, training=request.training | {"seq_len": seq_len}),
        seq_len=seq_len,
    )
    found = on_kind(kind, list(kind.offers), shorter, figures.within(seq_len), Notebook(), only_doable=True)
    return any(over is None and _can_be_had(each) for each, over in found)


def _can_be_had(found: Found) -> bool:
    """By this version, or by whoever rents it himself."""
    return found.fit.verdict == "fits" and (found.obstacle is None or found.obstacle.kind == PRICE_ONLY)
