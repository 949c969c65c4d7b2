"""What earlier runs teach: the middle moves to them, the range narrows, the more the more they have in common."""

from __future__ import annotations

import math

import msgspec
import pytest

from catalogs.bases.models import resolve_model
from planner.asking.data import default_data
from planner.estimators.time.duration import GPU_STACK, Here, estimate_duration
from planner.estimators.time.learned import NOTHING_LEARNED, Learned, Seen, cores_of, learned_from, machine_of
from planner.plan import DurationEstimate
from remote.contract import Loop, Strategy
from tests.planner.builders import make_gpu, make_offer

SPREAD = 1.5
HERE, ELSEWHERE = machine_of("local", "this-machine"), machine_of("cloud", "large")


def seen(off: float, *, num_runs: int = 1, machine: str = HERE, **otherwise: str | int) -> Seen:
    """Runs that took `off` times what was planned."""
    usual = Seen(GPU_STACK, "Card 24GB", 1, "none", machine, math.log(off), num_runs)
    return msgspec.structs.replace(usual, **otherwise)


def learned(*runs: Seen, gpu: str = "Card 24GB", quant: str = "none", machine: str = HERE) -> Learned:
    """What they teach of such a job."""
    return learned_from(runs, stack=GPU_STACK, gpu=gpu, num_gpus=1, quant=quant, machine=machine, spread=SPREAD)


def test_without_runs_of_its_stack_nothing_is_learned() -> None:
    assert learned() == NOTHING_LEARNED
    assert learned(seen(2.0, stack="another")) == NOTHING_LEARNED


def test_one_run_of_the_same_kind_by_hand() -> None:
    """Prior variance p = (ln 1.5 / 1.2816)² - 0.05², noise 0.05²: the mean is shrunk by p / (p + 0.05²)."""
    prior = (math.log(SPREAD) / 1.2816) ** 2 - 0.05**2
    kept = prior / (prior + 0.05**2)
    found = learned(seen(1.2))
    assert found.factor == pytest.approx(1.2**kept)
    assert found.spread == pytest.approx(math.exp(1.2816 * math.sqrt(prior * (1 - kept) + 0.05**2)))


def test_one_run_on_a_machine_s_own_cores_leaves_room_for_the_work_beside_it() -> None:
    """A desktop's next hour is not its last: a third up and down stays, of a rented card's a tenth."""
    cores = cores_of("local")
    card, own = learned(seen(1.2, num_runs=9)), learned(seen(1.2, num_runs=9, gpu=cores), gpu=cores)
    assert card.spread < 1.1
    assert 1.35 < own.spread < SPREAD
    assert 1.0 < own.factor < card.factor


def test_what_is_more_alike_teaches_more() -> None:
    """The same quantization on the same card, then as many of them, then the card, then the stack alone."""
    same, other_quant, more_cards, other_card = (
        learned(run) for run in (seen(1.3), seen(1.3, quant="nf4"), seen(1.3, num_gpus=8), seen(1.3, gpu="Other"))
    )
    assert 1.3 > same.factor > other_quant.factor > more_cards.factor > other_card.factor > 1.0
    assert 1.0 < same.spread < other_quant.spread < more_cards.spread < other_card.spread < SPREAD


def test_more_runs_teach_more_and_runs_that_disagree_are_weighed() -> None:
    """The own kind has the word over others; ten runs leave hardly more than what runs differ by among themselves."""
    once, often = learned(seen(1.3)), learned(seen(1.3, num_runs=10))
    assert once.factor < often.factor < 1.3
    assert math.exp(1.2816 * 0.05) < often.spread < once.spread
    mixed = learned(seen(1.3, num_runs=5), seen(0.7, gpu="Other", num_runs=5))
    assert 1.2 < mixed.factor < 1.3


def test_runs_far_outside_of_the_range_are_believed() -> None:
    """Twice as slow as planned, where the range went to 1.5 times."""
    assert learned(seen(2.0)).factor == pytest.approx(2.0, rel=0.01)


def test_what_surprises_is_the_machine_s_own() -> None:
    """A box at a fourth of the speed: its next run is as slow, the same card elsewhere is not, nor is any other."""
    slow = seen(4.0, num_runs=5)
    assert learned(slow).factor == pytest.approx(4.0, rel=0.02)
    assert 1.0 < learned(slow, machine=ELSEWHERE).factor < 1.1
    assert 1.0 < learned(slow, machine=ELSEWHERE, gpu="Other").factor < 1.05
    assert learned(slow, machine=ELSEWHERE).spread == pytest.approx(SPREAD, rel=0.05)


def test_a_slow_box_leaves_what_others_taught() -> None:
    """As they do without it, whether or not the next run is on one that was seen."""
    usual, slow = seen(1.1, num_runs=5, machine=ELSEWHERE), seen(4.0, num_runs=5)
    for machine in (ELSEWHERE, "cloud/small"):
        assert learned(usual, slow, machine=machine).factor == pytest.approx(learned(usual, machine=machine).factor, rel=0.03)


def test_what_most_machines_show_is_the_kind_s() -> None:
    """Two that are as slow are no accident: the planner was wrong of that card."""
    one, two = seen(2.0, num_runs=5), seen(2.0, num_runs=5, machine=ELSEWHERE)
    assert learned(one, two, machine="cloud/small").factor == pytest.approx(2.0, rel=0.02)


def test_a_usual_miss_on_one_machine_is_the_kind_s() -> None:
    """Within the planner's own range nothing says that another machine would be any better."""
    assert learned(seen(1.3), machine=ELSEWHERE) == learned(seen(1.3))


def timed(*runs: Seen) -> DurationEstimate:
    return estimate_duration(
        resolve_model("3b"),
        Strategy(method="lora", rank=16, alpha=32.0, seq_len=512, micro_batch_size=8),
        Here(make_gpu(), make_offer()),
        data=default_data(),
        loop=Loop(),
        seen=runs,
    )


def test_a_plan_with_earlier_runs_is_moved_and_narrower_and_says_so() -> None:
    """Steps and tokens per second; what surrounds training stays."""
    before, after = timed(), timed(seen(1.3, num_runs=4))
    assert after.step_s.p50 == pytest.approx(before.step_s.p50 * after.learned)
    assert 1.2 < after.learned < 1.3
    assert after.tokens_per_s.p50 == pytest.approx(before.tokens_per_s.p50 / after.learned)
    assert after.step_s.p90 / after.step_s.p10 < before.step_s.p90 / before.step_s.p10
    assert (before.learned, before.learned_from, after.learned_from) == (1.0, 0, 4)
    assert after.phase_s["download"] == before.phase_s["download"]
