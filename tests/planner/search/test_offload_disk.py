"""A disk below the RAM, where that is asked for: as few blocks on it as leave RAM enough, and never without a word of it."""

from __future__ import annotations

import re
from typing import Final

import msgspec
import pytest

from catalogs.bases.models import resolve_model
from catalogs.catalog import Catalog
from planner.asking.request import Where
from planner.estimators.calibration import ORDERED_DISK_BYTES_PER_S, READ_BYTES_PER_S
from planner.estimators.host import estimate_host, usable_ram_bytes
from planner.estimators.time.speed import StepTime, step_time
from planner.plan import Plan, Range
from planner.strategy.stack import PINNED_STACK
from planner.strategy.words import describe
from planner.units import MB
from remote.contract import Strategy, disk_blocks
from tests.planner.builders import ask, make_billing, make_catalog, make_gpu, make_offer, make_request

SMALL: Final = make_gpu("Card 16GB", memory_gib=16.0, driver_memory_mib=15360)
ASKED: Final = Where(offload_disk=True)
NOT_ASKED: Final = Where()


def market(*ram_gib: float | None) -> Catalog:
    offers = (make_offer(gpu=SMALL.name, instance_type=f"{ram}", ram_gib=ram) for ram in ram_gib)
    return make_catalog(*offers, gpus=(SMALL,))


def with_blocks_on_disk(strategy: Strategy, number: int) -> Strategy:
    assert strategy.streaming is not None
    return msgspec.structs.replace(strategy, streaming=msgspec.structs.replace(strategy.streaming, num_disk_blocks=number))


def planned(ram_gib: float) -> Plan:
    (plan,) = ask(make_request(model="32b", where=ASKED), market(ram_gib)).plans
    return plan


def test_nothing_waits_on_the_disk_unless_it_is_asked_for() -> None:
    """Where RAM is what lacks it is said that a disk would do, what that takes, and what to type."""
    result = ask(make_request(model="32b"), market(16.0))
    assert result.plans == ()
    (way,) = [each for each in result.ways_out if each.changes == {"where.offload_disk": True}]
    assert way.change == "with blocks waiting on the disk, for want of RAM"
    assert disk_blocks(way.plan.strategy) > 0
    assert way.plan.strategy == planned(16.0).strategy


def test_where_ram_is_refused_the_disk_is_what_would_do_if_it_leads_to_a_plan() -> None:
    """Beside a plan elsewhere as well; not of a machine that has too little RAM even so, nor where it was said already."""

    def remedies(*ram_gib: float, where: Where = NOT_ASKED) -> list[object]:
        refused = ask(make_request(model="32b", where=where), market(*ram_gib)).rejections
        return [each.changes for each in refused if "GiB of RAM" in each.reason]

    assert remedies(16.0) == [{"where.offload_disk": True}]
    assert remedies(16.0, 64.0) == [{"where.offload_disk": True}]
    assert remedies(4.0) == [{}]
    assert remedies(4.0, 64.0) == [{}]
    assert remedies(4.0, where=ASKED) == [{}]


def test_a_machine_of_too_little_ram_is_answered_with_how_much_would_do() -> None:
    """Nothing stood there; that the disk was tried, and what each of several machines has, is said as well."""

    def refused(*ram_gib: float, where: Where = NOT_ASKED) -> tuple[str, str | None]:
        (told,) = [
            each for each in ask(make_request(model="32b", where=where), market(*ram_gib)).rejections if "RAM" in each.reason
        ]
        return told.reason, told.remedy

    reason, remedy = refused(4.0)
    assert reason.startswith("needs ")
    assert remedy is not None
    assert (enough := re.fullmatch(r"a machine with (\d+) GiB of RAM, or a smaller base", remedy)) is not None
    assert ask(make_request(model="32b"), market(float(enough[1]))).plans
    tried = "; blocks on its disk (--offload-disk) do not make that enough"
    assert tried not in reason
    assert refused(4.0, where=ASKED)[0].endswith(tried)
    several, _ = refused(4.0, 3.0)
    assert several.startswith("need ")
    assert "; 4.0 has 4 GiB, of which 3.6 can be used; 3.0 has 3" in several


def test_as_few_blocks_wait_there_as_leave_ram_enough() -> None:
    """One fewer would need more RAM than the machine has; all that is counted of RAM and of the disk is theirs."""
    plan = planned(16.0)
    number = disk_blocks(plan.strategy)
    assert plan.host.ram_peak_bytes <= usable_ram_bytes(16.0)
    fewer = with_blocks_on_disk(plan.strategy, number - 1)
    host = estimate_host(resolve_model("32b"), fewer, num_gpus=1, on_cpu=False)
    assert host.ram_peak_bytes > usable_ram_bytes(16.0)
    assert 0 < host.disk_components["streamed"] < plan.host.disk_components["streamed"]
    assert plan.host.disk_peak_bytes == sum(plan.host.disk_components.values())
    assert describe(plan.strategy).endswith("streamed from RAM and disk")


def test_a_machine_with_ram_enough_leaves_its_disk_alone() -> None:
    plan = planned(64.0)
    assert (plan.strategy.offload, disk_blocks(plan.strategy)) == ("stream", 0)
    assert "streamed" not in plan.host.disk_components


def test_a_machine_with_too_little_ram_for_anything_is_refused_as_before() -> None:
    assert ask(make_request(model="32b", where=ASKED), market(4.0)).plans == ()


def test_of_untold_ram_nobody_says_what_a_disk_would_have_to_hold() -> None:
    assert ask(make_request(model="32b", where=ASKED), market(None)).plans == ()


def test_what_the_disk_gives_decides_where_it_is_slower_than_link_and_card() -> None:
    step = StepTime(
        compute_s=1.0,
        memory_s=0.0,
        host_s=0.1,
        held_s=0.0,
        link_s=0.5,
        summed_s=0.0,
        once_s=0.0,
        walked_s=0.0,
        forward_share=0.3,
    )
    slow = msgspec.structs.replace(step, disk_s=3.0)
    assert (step.bound, slow.bound) == ("compute", "disk")
    assert slow.micro_step_s == pytest.approx(3.0 + 0.15 * 1.0)


@pytest.mark.parametrize(("provider", "rate"), ORDERED_DISK_BYTES_PER_S.items())
def test_a_disk_reads_as_fast_as_the_one_that_is_ordered_there(provider: str, rate: Range) -> None:
    """Its range is that of such disks, and both are said."""
    sold = make_offer(provider=provider, gpu=SMALL.name, ram_gib=16.0)
    catalog = make_catalog(sold, gpus=(SMALL,), billing=(make_billing(provider=provider),))
    (plan,) = ask(make_request(model="32b", where=ASKED), catalog).plans
    step_s = plan.duration.step_s
    assert plan.duration.bound == "disk"
    read_bytes = 2 * plan.host.disk_components["streamed"] * plan.strategy.gradient_accumulation_steps
    assert step_s.p50 == pytest.approx(read_bytes / rate.p50, rel=0.5)
    assert step_s.p90 / step_s.p50 >= 0.9 * rate.p50 / rate.p90
    assert step_s.p50 / step_s.p10 >= 0.9 * rate.p10 / rate.p50
    assert any(said.startswith(f"disk: reads and writes {rate.p50 / MB:,.0f} MB/s") for said in plan.assumptions)


def test_of_a_disk_that_nobody_states_the_range_is_said_and_what_measures_it() -> None:
    """As wide as disks lie apart."""
    rate = READ_BYTES_PER_S
    assert (rate.p10 / rate.p50, rate.p50 / rate.p90) == (3.0, 3.0)
    assert "disk: reads 1,000 MB/s (333 to 3,000), assumed: preflight measures it" in planned(16.0).assumptions


def test_more_blocks_on_the_disk_take_longer() -> None:
    strategy, architecture = planned(16.0).strategy, resolve_model("32b")
    seconds = [
        step_time(
            architecture,
            with_blocks_on_disk(strategy, number),
            task="causal_lm",
            gpu=SMALL,
            stack=PINNED_STACK,
            mean_seq_len=512,
            interconnect="pcie",
        ).disk_s
        for number in (0, 1, 30, 58)
    ]
    assert seconds[0] == 0
    assert seconds == sorted(set(seconds))
