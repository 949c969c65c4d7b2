"""A base that is packed at home before anything is rented, and whether the run takes it packed or as it was."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from catalogs.user_file import expanded
from planner.report.words import usd
from provision.errors import BadInput
from provision.prepare.inputs import find_base
from provision.prepare.inputs.base_files import weights_in
from provision.prepare.quantizing import Packing
from remote.contract import PACKED_HERE, PACKED_INDEX, PackedFile

if TYPE_CHECKING:
    from planner.plan import Plan
    from provision.prepare.choosing import Chosen

PACKED_FOLDER: Final = "packed"  # in the cache at home
PACKABLE: Final = ("folder", "hub")  # kinds of bases
MARK_CHARS: Final = 12  # of a hash, in the folder's name

Pack = Callable[[Packing, Callable[[PackedFile], object]], tuple[PackedFile, ...]]


def packed_first(
    before: Chosen, choose: Callable[[str], Chosen], *, cache: Path, pack: Pack, say: Callable[[str], object]
) -> Chosen:
    """What will be run of a plan `before` once its base is packed as the plan trains over it, in a folder of the cache that the
    next run finds: `choose` plans anew with that folder for a model. The cheaper of both is taken, and both are told.

    Raises BadInput for a base or a quantization that nothing packs, and what `pack` raises.
    """
    if (expanded(before.plan.request.model) / PACKED_INDEX).is_file():
        say("the base is packed already")
        return before
    asked = _asked(before.plan, cache)
    shards = pack(asked, lambda shard: say(f"packed {shard.number} of {shard.of}: {shard.file}") if shard.packed_now else None)
    say(_told(asked, shards))
    after = choose(str(asked.into))
    least, other = sorted((after, before), key=lambda each: each.plan.cost.total_usd.p50)
    how = {id(after): "packed", id(before): "as it is"}
    costs = ((how[id(each)], usd(each.plan.cost.total_usd.p50), each.plan.offer.key) for each in (least, other))
    told = ", ".join(f"with the base {word} {dollars} on {offer}" for word, dollars, offer in costs)
    say(f"the job is {told}: the former is run")
    return least


def _asked(plan: Plan, cache: Path) -> Packing:
    model, strategy = plan.request.model, plan.strategy
    base = find_base(model)
    if base.kind not in PACKABLE:
        raise BadInput(f"{model} can't be packed here: only a model folder or a hub id can.", hint="leave --pack-first out")
    if strategy.quant not in PACKED_HERE:
        why = f"The plan trains over {strategy.quant}, and bases are packed in {' or '.join(PACKED_HERE)}."
        raise BadInput(why, hint="--quant nf4, or leave --pack-first out")
    named = base.path or base.hub_id or model
    asked: dict[str, Any] = {"quant": strategy.quant, "double_quant": strategy.double_quant, "dtype": strategy.param_dtype}
    mark = hashlib.sha256("\n".join((named, repr(sorted(asked.items())), *_state_of(base.path))).encode()).hexdigest()
    into = cache / PACKED_FOLDER / f"{Path(named).name}-{strategy.quant}-{mark[:MARK_CHARS]}"
    return Packing(base=named, into=into, **asked)


def _state_of(folder: str | None) -> Iterator[str]:
    """What says that the weights in a folder are others than before: what was packed of those is another base then."""
    for file in sorted(weights_in(Path(folder))) if folder is not None else ():
        there = file.stat()
        yield f"{file.name} {there.st_size} {there.st_mtime_ns}"


def _told(asked: Packing, shards: tuple[PackedFile, ...]) -> str:
    if not any(shard.packed_now for shard in shards):
        return f"an earlier run packed the base: it is taken from {asked.into}"
    return f"the base is packed in {asked.into}, where the next run finds it"
