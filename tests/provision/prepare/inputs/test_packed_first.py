"""`run --pack-first`: the base is packed at home, planned anew, and taken where that is cheaper; the next run finds it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from planner.plan import Plan, Range
from provision.errors import BadInput
from provision.prepare.choosing import Chosen
from provision.prepare.inputs.packed_first import packed_first
from provision.prepare.quantizing import Packing
from remote.contract import PACKED_INDEX, PackedFile
from tests.planner.builders import make_plan


def costing(usd: float, model: str, *, quant: str = "nf4") -> Chosen:
    plan = make_plan()
    cost = msgspec.structs.replace(plan.cost, total_usd=Range(p10=usd, p50=usd, p90=usd))
    strategy = msgspec.structs.replace(plan.strategy, quant=quant, double_quant=quant == "nf4")
    request = msgspec.structs.replace(plan.request, model=model)
    return Chosen(msgspec.structs.replace(plan, cost=cost, strategy=strategy, request=request), ())


class Home:
    """A machine where packing writes its index, and tells of two files."""

    def __init__(self, folder: Path) -> None:
        self.base, self.cache = folder / "base", folder / "cache"
        self.base.mkdir()
        for name in ("config.json", "tokenizer.json"):
            (self.base / name).write_text("{}")
        (self.base / "model.safetensors").write_bytes(bytes(9))
        self.asked: list[Packing] = []
        self.said: list[str] = []

    def pack(self, asked: Packing, tell: Callable[[PackedFile], object]) -> tuple[PackedFile, ...]:
        self.asked.append(asked)
        made = not (asked.into / PACKED_INDEX).exists()
        asked.into.mkdir(parents=True, exist_ok=True)
        (asked.into / PACKED_INDEX).touch()
        shards = tuple(
            PackedFile(file=f"{number}.safetensors", number=number, of=2, read_bytes=8, written_bytes=2, packed_now=made)
            for number in (1, 2)
        )
        for shard in shards:
            tell(shard)
        return shards

    def run(self, before: Chosen, packed_usd: float) -> Plan:
        found = packed_first(
            before, lambda folder: costing(packed_usd, folder), cache=self.cache, pack=self.pack, say=self.said.append
        )
        return found.plan


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_the_packed_base_is_run_where_that_is_cheaper_and_both_are_told_in_dollars(home: Home) -> None:
    plan = home.run(costing(2.0, str(home.base)), 1.25)
    assert Path(plan.request.model).parent == home.cache / "packed"
    assert (home.asked[0].base, home.asked[0].quant, home.asked[0].double_quant) == (str(home.base), "nf4", True)
    packed, told, compared = home.said[1:]
    assert packed == "packed 2 of 2: 2.safetensors"
    assert told == f"the base is packed in {plan.request.model}, where the next run finds it"
    assert compared.startswith(f"the job is with the base packed $1.25 on {plan.offer.key}, with the base as it is $2.00 on ")


def test_where_bringing_it_from_here_is_dearer_the_base_is_run_as_it_is(home: Home) -> None:
    assert home.run(costing(1.0, str(home.base)), 1.25).request.model == str(home.base)
    assert home.said[-1].startswith("the job is with the base as it is $1.00")


def test_the_next_run_packs_nothing_and_says_so(home: Home) -> None:
    first = home.run(costing(2.0, str(home.base)), 1.25)
    home.said.clear()
    assert home.run(costing(2.0, str(home.base)), 1.25).request.model == first.request.model
    assert home.said[0] == f"an earlier run packed the base: it is taken from {first.request.model}"


def test_a_base_that_has_changed_or_is_packed_otherwise_has_a_folder_of_its_own(home: Home) -> None:
    home.run(costing(2.0, str(home.base)), 1.0)
    home.run(costing(2.0, str(home.base), quant="fp4"), 1.0)
    (home.base / "model.safetensors").write_bytes(bytes(10))
    home.run(costing(2.0, str(home.base)), 1.0)
    assert len({asked.into for asked in home.asked}) == 3


def test_a_base_that_is_packed_is_taken_as_it_is(home: Home) -> None:
    (home.base / PACKED_INDEX).touch()
    assert home.run(costing(2.0, str(home.base)), 1.0).request.model == str(home.base)
    assert (home.said, home.asked) == (["the base is packed already"], [])


def test_what_can_t_be_packed_is_refused_in_one_sentence(home: Home) -> None:
    with pytest.raises(BadInput, match="The plan trains over none, and bases are packed in nf4 or fp4 or int8"):
        home.run(costing(2.0, str(home.base), quant="none"), 1.0)
    file = home.base / "model.gguf"
    file.touch()
    with pytest.raises(BadInput, match="can't be packed here: only a model folder or a hub id can"):
        home.run(costing(2.0, str(file)), 1.0)
