"""Wishes that change nothing about this very job, and why: each is told in a sentence and never passed over in silence.

Keys of the training that no strategy reads have their own table, UNREAD in planner/notices/vain.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import msgspec

from catalogs.bases.architectures import Architecture
from catalogs.bases.models import hub_id_of
from planner.advise import ADVISED_METHODS, advise
from planner.asking.options.table import BY_FIELD
from planner.asking.policy import Rule
from planner.asking.request import Request
from planner.asking.rules import AUTO, facts_of, loop_for, said_of_loop
from planner.choice.recipes import OF_THE_LOOP, RULES, SERVING_RULES, SKEWED, Fact
from planner.methods import METHODS
from planner.search.market.offers import Market
from planner.search.market.own import is_stated
from planner.search.ways.strategies import seq_len_of


class Told(msgspec.Struct, frozen=True):
    """What was asked, and what of the world it depends on whether that changes anything."""

    request: Request
    architecture: Architecture
    market: Market
    rules: tuple[Rule, ...]


Why = Callable[[Told], str | None]  # None: it was not said, or it does change something


def idle_wishes(told: Told) -> Iterator[str]:
    """A sentence for each."""
    for field, why in IDLE.items():
        if (reason := why(told)) is not None:
            yield f"{BY_FIELD[field].parameter} changes nothing here: {reason}"


FACTS: Final[Mapping[str, Fact]] = {  # what the rules call a word about what the job is for
    "use_case": "use_case",
    "deployment": "deployment",
    "accuracy": "accuracy",
    "imbalance": "balance",
}


def _advises_nothing(key: str) -> Why:
    """Of a word about what the job is for: all that is advised is as without it."""

    def why(told: Told) -> str | None:
        request = told.request
        if getattr(request.purpose, key) is None:
            return None
        without = msgspec.structs.replace(request, purpose=msgspec.structs.replace(request.purpose, **{key: None}))
        if _advice(request, told.architecture) != _advice(without, told.architecture):
            return None
        method = str(request.training.get("method", AUTO))
        if method not in (AUTO, *ADVISED_METHODS):
            return f"what it advises is of methods {', '.join((AUTO, *ADVISED_METHODS))}, and the job says {method}"
        return _unread_advice(key, request)

    return why


def _unread_advice(key: str, request: Request) -> str:
    """Why no rule that asks for it moves anything: none holds, or what it moves was said."""
    fact, facts = FACTS[key], facts_of(request)
    about = [rule.when for rule in (*RULES, *SERVING_RULES) if facts[fact] in rule.when.get(fact, ())]
    if not about:
        return f"classes count as skewed from {SKEWED:g} on"
    lacking = [(other, words) for when in about for other, words in when.items() if facts[other] not in words]
    if len(lacking) < len(about):
        return "what it advises was said, or is advised without it"
    other, words = lacking[0]
    return f"the advice asks for {other} {' or '.join(words)} beside it"


def _advice(request: Request, architecture: Architecture) -> tuple[object, ...]:
    """All values that a job gets without saying them."""
    advice, loop, said = advise(request, architecture), loop_for(request), said_of_loop(request)
    of_loop = tuple(getattr(loop, key) for key in OF_THE_LOOP if key not in said)
    return advice.training, advice.variants, advice.global_batch_size, of_loop


def _seq_len(told: Told) -> str | None:
    said = told.request.training.get("seq_len")
    needed = seq_len_of(told.request, told.architecture)
    return f"the longest row has {told.request.data.max_tokens:,} tokens" if said is not None and said > needed else None


def _revision(told: Told) -> str | None:
    from_hub = hub_id_of(told.request.model) is not None
    return None if told.request.revision is None or from_hub else "the base does not come from the hub"


def _power_price(told: Told) -> str | None:
    where = told.request.where
    ours = any(offer.gpu_free_mib is not None or is_stated(offer, where) for offer in told.market.offers)
    said = told.request.where.power_usd_per_kwh is not None
    return "no card of yours is on offer (--gpu here, --gpus)" if said and not ours else None


def _offload_disk(told: Told) -> str | None:
    method = str(told.request.training.get("method", AUTO))
    if not told.request.where.offload_disk or method not in METHODS or not METHODS[method].moves:
        return None
    return f"{method} trains the base's own parameters, and only frozen blocks are streamed"


def _environment(told: Told) -> str | None:
    idle = not told.request.keep.environment and told.request.where.host is None
    return "only a host of yours keeps one (--host)" if idle else None


def _overruled(told: Told) -> str | None:
    known = {rule.key for rule in told.rules}
    unknown = [key for key in told.request.overruled if key not in known]
    return f"no policy says {' or '.join(unknown)}" if unknown else None


IDLE: Final[Mapping[str, Why]] = {  # by field of the Request
    "purpose.use_case": _advises_nothing("use_case"),
    "purpose.deployment": _advises_nothing("deployment"),
    "purpose.accuracy": _advises_nothing("accuracy"),
    "purpose.imbalance": _advises_nothing("imbalance"),
    "training.seq_len": _seq_len,
    "revision": _revision,
    "where.power_usd_per_kwh": _power_price,
    "where.offload_disk": _offload_disk,
    "keep.environment": _environment,
    "overruled": _overruled,
}
