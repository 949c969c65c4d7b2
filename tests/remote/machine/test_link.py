"""The link between host and card: timed by a copy, told beside what the plan counts on.

No card is in this machine: a stand-in copies nothing and takes the seconds that a link of a known speed would.
"""

from __future__ import annotations

import pytest

from remote.contract import Strategy
from remote.machine.link import NUM_PIECES, PIECE_BYTES, measured_link, slow_link_words, to_card_bytes_per_s

STREAMED = Strategy(method="lora", quant="nf4", offload="stream")


class Link:
    """A link that carries so many bytes a second, but for its first copy, which wakes it up."""

    def __init__(self, bytes_per_s: float, *, fails_at: int | None = None) -> None:
        self.piece_s, self.fails_at = PIECE_BYTES / bytes_per_s, fails_at
        self.now_s, self.num_copies = 0.0, 0

    def copy(self) -> None:
        if self.num_copies == self.fails_at:
            raise RuntimeError("CUDA error: out of memory")
        self.now_s += self.piece_s if self.num_copies else 100.0
        self.num_copies += 1


@pytest.mark.parametrize("bytes_per_s", [0.9e9, 25e9, 50e9])
def test_a_link_is_timed_behind_its_first_copy(bytes_per_s: float) -> None:
    """256 MiB in all."""
    link = Link(bytes_per_s)
    assert to_card_bytes_per_s(link.copy, clock=lambda: link.now_s) == pytest.approx(bytes_per_s)
    assert (link.num_copies, NUM_PIECES * PIECE_BYTES) == (1 + NUM_PIECES, 256 << 20)


@pytest.mark.parametrize("fails_at", [0, 3])
def test_a_copy_that_fails_is_no_figure_and_no_end(fails_at: int) -> None:
    link = Link(25e9, fails_at=fails_at)
    assert to_card_bytes_per_s(link.copy, clock=lambda: link.now_s) is None


def test_a_processor_has_no_link() -> None:
    def never(_copy: object) -> float:
        raise AssertionError("nothing is copied without a card")

    assert measured_link("cpu", never) is None


def test_a_run_that_streams_is_told_what_a_slow_link_means() -> None:
    told = slow_link_words(6.25e9, planned_bytes_per_s=25e9, strategy=STREAMED)
    assert told == (
        "the link carries 6.2 GB/s to the card, the plan counts on 25.0: where streamed blocks decide, a step takes 4.0 times "
        "as long; the probe shows whether the job still ends in time, and a machine whose card has all its lanes is the cure"
    )


@pytest.mark.parametrize(
    ("bytes_per_s", "planned_bytes_per_s", "offload"),
    [(20e9, 25e9, "stream"), (6e9, 25e9, "none"), (6e9, None, "stream"), (None, 25e9, "stream")],
    ids=["as planned", "nothing streams", "no plan", "not timed"],
)
def test_nothing_is_said_where_it_is_as_planned_or_nobody_waits_for_it(
    bytes_per_s: float | None, planned_bytes_per_s: float | None, offload: str
) -> None:
    strategy = Strategy(method="lora", offload=offload)  # type: ignore[arg-type]
    assert slow_link_words(bytes_per_s, planned_bytes_per_s=planned_bytes_per_s, strategy=strategy) is None
