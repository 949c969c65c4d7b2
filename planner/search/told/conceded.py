"""A way out: what of a request is given up, and the best plan without it."""

from __future__ import annotations

import msgspec

from catalogs.bases.architectures import Architecture
from planner.advise import advise
from planner.asking.options.overlay import changed
from planner.asking.request import Changes
from planner.search.ranking import Found, Question
from planner.search.ways.strategies import seq_len_of


class Conceded(msgspec.Struct, frozen=True, kw_only=True):
    """What is given up, and how that is said."""

    changes: Changes  # fields of the Request, as they would have to be
    words: str  # behind "can be run": "on demand"
    given_up: str | None = None  # where that is no wish alone, which the changes tell: what there was, and what it means
    is_advised: bool = False  # nothing of it was said: it is given up before any wish


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """The best plan without it that this version can run."""

    conceded: Conceded
    question: Question  # that it answers
    found: Found


def asked_without(question: Question, conceded: Conceded, architecture: Architecture) -> Question:
    """The question about the job that is left, advised anew."""
    request = changed(question.request, conceded.changes)
    return msgspec.structs.replace(
        question, request=request, advice=advise(request, architecture), seq_len=seq_len_of(request, architecture)
    )
