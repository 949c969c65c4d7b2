"""Cards that are given: which ways hold the job, what of their memory adds up, and what streaming asks of link and RAM."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from catalogs.catalog import read_catalog
from planner.asking.data import stated_data
from planner.asking.quantities import parse_cards
from planner.asking.request import RequestError, Where
from planner.estimators.memory import available_bytes
from planner.plan import Cards, Layout, LayoutKind, SearchResult
from planner.report.layouts import ADDS_UP, budget_lines, cards_lines, pace
from planner.report.lines import render
from planner.search import cards_of
from planner.units import GIB
from tests.answer_page import answer
from tests.planner.builders import ask, make_catalog, make_offer, make_request

CATALOG = read_catalog()
MARKET = make_catalog(
    *(make_offer(gpu=name, instance_type=name, ram_gib=256.0) for name in ("T4", "V100-PCIE-16GB", "H100 SXM5")),
    gpus=tuple(CATALOG.gpus.values()),
)


def asked(
    model: str = "32b", *, cards: Cards | None = None, budget_gib: float | None = None, long: int = 512, **training: Any
) -> SearchResult:
    """The answer on a market of a few machines, about rows of so many tokens."""
    data = stated_data(num_examples=1_000, tokens_per_example=long)
    request = make_request(model=model, data=data, where=Where(gpu_memory_gib=budget_gib), training=training)
    return ask(request, MARKET, cards=cards)


def of(result: SearchResult, kind: LayoutKind) -> list[Layout]:
    """The rows of one way, in the order of the cards."""
    return [each for each in result.layouts if each.kind == kind]


@pytest.fixture(scope="module")
def on_16_gb() -> SearchResult:
    """The shipped market's answer."""
    return answer(CATALOG)


def test_32b_on_16_gb_is_told_for_an_owned_card_and_for_those_that_are_rented(on_16_gb: SearchResult) -> None:
    """One with bfloat16 and PCIe 4, a T4 and a V100."""
    cards = [CATALOG.gpus[name] for name in dict.fromkeys(str(each.card) for each in on_16_gb.layouts)]
    assert [(card.bf16, card.pcie_generation) for card in cards] == [(True, 4), (False, 3), (False, 3)]
    assert {card.architecture for card in cards[1:]} == {"Turing", "Volta"}


def test_plain_qlora_of_32b_needs_more_than_16_gb_and_streamed_it_fits(on_16_gb: SearchResult) -> None:
    """On each of the cards, and it can be run where the trainer's torch has code for the card."""
    assert {each.verdict for each in of(on_16_gb, "whole")} == {"does_not_fit"}
    assert {each.strategy.quant for each in of(on_16_gb, "whole")} == {"nf4"}
    assert {each.verdict for each in of(on_16_gb, "streamed")} == {"fits"}
    missing = {CATALOG.gpus[str(each.card)].architecture: each.missing for each in of(on_16_gb, "streamed")}
    assert missing.pop("Volta") == ("the trainer's torch has no code for compute capability 7.0, only from 7.5 on",)
    assert set(missing.values()) == {()}
    assert all(each.required_bytes > 16 * GIB for each in of(on_16_gb, "three_bits"))
    assert {each.strategy.num_gpus for each in of(on_16_gb, "parts")} == {2}


def test_what_streaming_asks_for_is_in_figures(on_16_gb: SearchResult) -> None:
    """RAM for all blocks, a link, the tokens that hide it; a slower link costs more."""
    for each in of(on_16_gb, "streamed"):
        assert each.streamed is not None
        assert each.streamed.ram_bytes > 16e9  # 31 billion weights at half a byte wait there
        assert each.streamed.tokens >= each.streamed.hiding_tokens > 0
        assert 1 < each.streamed.slow_down < each.streamed.slow_down_half
    links = [each.streamed.link_gb_per_s for each in of(on_16_gb, "streamed") if each.streamed is not None]
    assert links == [25.0, 12.5, 12.5]


def test_nothing_is_told_of_cards_where_the_budget_holds_the_job() -> None:
    """Nor where there is no budget."""
    assert asked("1b", budget_gib=16.0).layouts == ()
    assert asked("32b").layouts == ()


def test_copies_do_not_add_memory_up_and_parts_do() -> None:
    """Four cards of 24 GB are not one card of 96."""
    one, two, four = (asked(cards=Cards(number, 24.0)) for number in (1, 2, 4))
    assert {each.kind for each in one.layouts} == {"whole", "streamed"}
    whole, copies = of(four, "whole")[0], of(four, "copies")[0]
    assert copies.required_bytes >= whole.required_bytes
    assert all(each.required_bytes >= whole.required_bytes for each in of(four, "states"))
    by_number = [min(each.required_bytes for each in of(result, "parts")) for result in (two, four)]
    assert whole.required_bytes > by_number[0] > by_number[1]
    assert of(four, "parts")[0].missing != ()


def test_of_cards_the_lightest_change_that_fits_is_told() -> None:
    """Nobody quantizes a model that fits as it is."""
    (whole,) = of(asked("1b", cards=Cards(1, 24.0)), "whole")
    assert (whole.strategy.quant, whole.verdict) == ("none", "fits")


@pytest.mark.parametrize(("model", "quant"), [("7b", "none"), ("7b", "nf4"), ("32b", "nf4")])
def test_streamed_through_a_card_a_job_needs_less_of_it_than_lying_there_whole(model: str, quant: str) -> None:
    """Of the same micro-batch: otherwise the row with less on the card would show more."""
    result = asked(model, cards=Cards(1, 24.0), quant=quant)
    (whole,), (streamed,) = of(result, "whole"), of(result, "streamed")
    assert streamed.strategy.micro_batch_size == whole.strategy.micro_batch_size
    assert streamed.required_bytes < whole.required_bytes


def test_cards_hold_what_fits_with_what_spares_memory_as_a_plan_on_them_does() -> None:
    """32B with 7,024 tokens through a card of 24 GB: with a loss in chunks, in 16 bits and, of far less RAM, in 4."""
    result = asked(cards=Cards(1, 24.0), long=7_024)
    streamed = of(result, "streamed")
    assert [(each.strategy.quant, each.strategy.loss, each.verdict) for each in streamed] == [
        ("none", "liger", "fits"),
        ("nf4", "liger", "fits"),
    ]
    rams = [each.ram_bytes or 0 for each in streamed]
    assert rams[0] > 3 * rams[1] > 0
    text = "\n".join(
        line for part in cards_lines(Cards(1, 24.0), result.layouts) for line in render(part, width=240, colour=False)
    )
    assert f"the job needs {rams[1] / GIB:.0f} GiB of RAM" in text
    assert "streamed from RAM, nf4, liger loss" in text
    assert {each.strategy.loss for each in asked(cards=Cards(1, 24.0), long=7_024, loss="hf").layouts} == {"hf"}


def test_of_one_card_no_other_is_spoken_of() -> None:
    parts = tuple(cards_lines(Cards(1, 24.0), asked("1b", cards=Cards(1, 24.0)).layouts))
    text = " ".join(line for part in parts for line in render(part, width=100, colour=False))
    assert "everything lies on the card" in text
    assert "other cards" not in text
    assert "adds up" not in text


@pytest.mark.parametrize(
    ("asked_gib", "shown", "meant"), [(24 / 1000, "24 MB", "24GB"), (1 / 1000, "1 MB", "6GB"), (2.9, "2.9 GB", "6GB")]
)
def test_a_card_smaller_than_any_is_a_slip_of_the_unit(asked_gib: float, shown: str, meant: str) -> None:
    """Told of cards that are asked about, and of a budget per GPU."""
    for said in ({"cards": Cards(4, asked_gib)}, {"budget_gib": asked_gib}):
        with pytest.raises(RequestError) as refused:
            asked("1b", **said)
        assert f"says {shown} on a card, and the smallest card has 6 GB" in refused.value.message
        assert refused.value.hint == f"did you mean {'4x' if 'cards' in said else ''}{meant}?"


def test_cards_by_name_are_told_with_hours_and_with_what_the_link_takes() -> None:
    """Several are linked by PCIe; of what does not fit there are no hours."""
    result = asked("7b", cards=Cards(2, 24.0, "RTX 3090"))
    assert {each.card for each in result.layouts} == {"RTX 3090"}
    assert {each.available_bytes for each in result.layouts} == {available_bytes(CATALOG.gpus["RTX 3090"], None)}
    (whole,), (copies,) = of(result, "whole"), of(result, "copies")
    assert whole.train_s is not None
    assert copies.train_s is not None
    assert 0.5 <= copies.train_s.p50 / whole.train_s.p50 < 1  # two cards, each with a copy, are faster, and not more than twice
    assert all(each.streamed is not None and each.streamed.link_gb_per_s > 0 for each in of(result, "streamed"))
    lines = [
        line
        for part in cards_lines(Cards(2, 24.0, "RTX 3090"), result.layouts)
        for line in render(part, width=240, colour=False)
    ]
    assert lines[0].startswith("2 RTX 3090 (24 GiB) in one machine are not one card of 48 GiB.")
    assert any(" over a link of 25 GB/s (assumed)" in line for line in lines)
    assert {each.train_s for each in asked("7b", cards=Cards(2, 24.0)).layouts} == {None}


@pytest.mark.parametrize(
    ("slow_down", "said"), [(1.02, "2% slower"), (0.96, "4% quicker"), (1.004, "as fast"), (0.996, "as fast"), (1.0, "as fast")]
)
def test_what_the_link_takes_is_never_a_negative_share(slow_down: float, said: str) -> None:
    """A 14B on 16 GB was told to be "-4% slower", where larger micro-batches fit than beside all weights."""
    assert pace(slow_down) == said


def test_a_card_by_name_multiplies_in_what_it_can() -> None:
    assert {each.strategy.autocast for each in asked("7b", cards=Cards(1, 16.0, "T4")).layouts} <= {"float16", "off"}


def test_a_name_of_cards_that_nobody_knows_or_nobody_trains_on_is_refused_with_what_to_type() -> None:
    with pytest.raises(RequestError, match='GPU "RTX 309"') as unknown:
        cards_of(2, "RTX 309", CATALOG)
    assert unknown.value.hint is not None
    assert unknown.value.hint.startswith("nearest: RTX 3090, ")
    with pytest.raises(RequestError, match="the MI300X is no card of NVIDIA's") as other:
        cards_of(2, "MI300X", CATALOG)
    assert other.value.hint == 'what it would hold is said by: rentune estimate --gpu "MI300X" --num-gpus 2'
    assert cards_of(2, "geforce rtx 3090", CATALOG) == Cards(2, 24.0, "RTX 3090")


def test_what_trains_the_base_itself_is_not_streamed() -> None:
    """Only frozen blocks can be."""
    assert of(asked("1b", cards=Cards(2, 24.0), method="full"), "streamed") == []


def test_weights_that_move_are_held_in_no_fewer_bits() -> None:
    """Full tuning has no row of 3 bits or 2, and where cards hold its weights otherwise each says how."""
    result = asked("7b", budget_gib=16.0, method="full")
    assert {each.kind for each in result.layouts} == {"whole", "parts"}
    lines = [line for part in budget_lines(16.0, result.layouts) for line in render(part, width=240, colour=False)]
    (whole,) = (line for line in lines if line.startswith("all on one card "))
    assert "does not fit, bf16" in whole
    assert "does not fit, f32" in whole


def test_each_way_is_a_row_with_what_adds_up() -> None:
    """At any width; what would fit and can't be run is named."""
    parts = tuple(cards_lines(Cards(4, 24.0), asked(cards=Cards(4, 24.0)).layouts))
    for width in (80, 100):
        lines = [line for part in parts for line in render(part, width=width, colour=False)]
        text = " ".join(" ".join(lines).split())
        assert text.startswith("4 cards of 24 GiB in one machine are not one card of 96 GiB.")
        assert "not yet runnable: of those that would fit the trainer cannot do" in text
        assert max(map(len, lines)) <= width
    assert set(ADDS_UP) == set(get_args(LayoutKind))


def test_a_budget_is_a_table_of_ways_and_cards(on_16_gb: SearchResult) -> None:
    """It holds in eighty columns."""
    lines = [line for part in budget_lines(16.0, on_16_gb.layouts) for line in render(part, width=80, colour=False)]
    assert max(map(len, lines)) <= 80
    for words in ("streamed from RAM", "RAM needed", "hidden from", "slower by", "2 cards"):
        assert words in "\n".join(lines)


@pytest.mark.parametrize(("text", "cards"), [("4x24GB", (4, 24.0)), ("2 × 16", (2, 16.0)), ("80GiB", (1, 80.0))])
def test_cards_are_a_number_and_a_size(text: str, cards: tuple[int, float]) -> None:
    """As people say it."""
    assert parse_cards(text) == cards


@pytest.mark.parametrize("text", ["4x", "0x24GB", "x24", "4y24", "-1x24GB", "4xNaN", "4x0GB", "99999x24GB", ""])
def test_what_is_no_number_of_cards_is_refused(text: str) -> None:
    """With how it is written."""
    with pytest.raises(ValueError, match='such as "4x24GB"'):
        parse_cards(text)
