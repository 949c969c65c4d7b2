"""What the meters say that somebody should know: once each, with a figure, and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from remote.machine.advice import FIRST_STEPS, LEAK_STEPS, Advisor, Second, Stepped

LINK = 64e9  # PCIe 4.0, 16 lanes, both ways
MB = 10**6


def minutes(
    advisor: Advisor, *, seconds: int = 130, training: bool = True, throttles: tuple[str, ...] = (), **figures: float
) -> list[str]:
    """Everything it says while the meters stay like this."""
    looks = (Second(at_s=float(at), training=training, figures=figures, throttles=throttles) for at in range(seconds))
    return [words for look in looks for words in advisor.saw(look)]


def stepped(
    advisor: Advisor, *, batch_s: float = 0.01, ram: Any = lambda _step: None, steps: int = FIRST_STEPS + LEAK_STEPS
) -> None:
    for step in range(1, steps + 1):
        advisor.stepped(Stepped(step=step, step_s=1.0, batch_s=batch_s, ram_bytes=ram(step)))


@pytest.mark.parametrize(
    ("figures", "batch_s", "words"),
    [
        ({}, 0.4, "40% of a step goes into making its batch, so data holds it up"),
        ({"pcie_received_bytes_per_s": 40e9}, 0.01, "40.0 GB/s pass over its link of 64, so the link holds it up"),
        ({"process_cpu_percent": 103.0}, 0.01, "keeps 1.0 cores busy with handing out work, so the host holds it up"),
        ({"process_cpu_percent": 30.0}, 0.01, "more rows at once may help"),
    ],
)
def test_a_card_that_waits_is_told_with_what_it_waits_for(figures: dict[str, Any], batch_s: float, words: str) -> None:
    advisor = Advisor(link_bytes_per_s=LINK)
    stepped(advisor, batch_s=batch_s)
    (said,) = minutes(advisor, gpu_utilization_percent=55.0, **figures)
    assert said.startswith("the card was busy 55 % of the last 2 minutes: ")
    assert words in said
    assert minutes(advisor, gpu_utilization_percent=55.0, **figures) == []  # once is enough


@pytest.mark.parametrize(
    "changes",
    [
        {"gpu_utilization_percent": 92.0},
        {"gpu_utilization_percent": 55.0, "seconds": 60},
        {"gpu_utilization_percent": 55.0, "training": False},  # an evaluation or a save is no training
        {},  # there is no card
    ],
)
def test_a_card_that_works_or_has_not_waited_for_minutes_is_not(changes: dict[str, Any]) -> None:
    advisor = Advisor(link_bytes_per_s=LINK)
    stepped(advisor)
    assert minutes(advisor, **changes) == []


def test_heat_is_told_where_it_holds_the_clocks_down_for_most_of_the_time() -> None:
    (said,) = minutes(Advisor(link_bytes_per_s=None), throttles=("heat",), gpu_temperature_c=88.0)
    assert said.startswith("the card's clocks were held down by heat for 100% of the last 2 minutes at 88 °C")
    assert minutes(Advisor(link_bytes_per_s=None), seconds=60, throttles=("heat",)) == []


def test_a_disk_that_fills_is_told_before_it_is_full() -> None:
    assert minutes(Advisor(link_bytes_per_s=None), disk_free_bytes=5e9) == []
    (said,) = minutes(Advisor(link_bytes_per_s=None), disk_free_bytes=0.5e9)
    assert said.startswith("0.50 GB of disk are left")


def test_a_leak_is_told_with_its_slope() -> None:
    """Whatever RAM does at the beginning: caches fill in the first steps."""
    advisor = Advisor(link_bytes_per_s=None)
    stepped(advisor, ram=lambda step: 2000 * MB + (3 * MB * step if step > FIRST_STEPS else 500 * MB * step))
    (said,) = minutes(advisor, seconds=1)
    assert said.startswith("the trainer's RAM grows by 3.0 MB a step, 600 MB over the last 200 steps; it holds 2.7 GB")


@pytest.mark.parametrize(
    "ram",
    [
        lambda step: 2000 * MB + 100_000 * step,  # 20 MB in all
        lambda step: 2000 * MB + 300 * MB * (step > 100),  # one jump: an evaluation, say
        lambda step: 2000 * MB + 40 * MB * (step % 7),  # up and down
    ],
)
def test_what_does_not_grow_on_and_on_is_no_leak(ram: Any) -> None:
    advisor = Advisor(link_bytes_per_s=None)
    stepped(advisor, ram=ram)
    assert minutes(advisor, seconds=1) == []


def test_too_few_steps_tell_of_no_leak() -> None:
    advisor = Advisor(link_bytes_per_s=None)
    stepped(advisor, ram=lambda step: 2000 * MB + 3 * MB * step, steps=LEAK_STEPS)
    assert minutes(advisor, seconds=1) == []
