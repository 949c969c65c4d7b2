"""Calibration rows read back: what an earlier run took, without what its own plan had already learned."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest

from planner.estimators.time.duration import CPU_STACK, GPU_STACK
from planner.estimators.time.learned import Seen, cores_of, machine_of
from provision.account.receipt.calibration import Calibration, calibrations, was_shared
from provision.account.receipt.earlier import read_seen
from provision.account.receipt.value import BaseUsed
from provision.account.runs import Rental, RunState
from remote.contract import Measured
from tests.planner.builders import exactly, make_gpu
from tests.provision.account.receipts import outcome_of, receipt_of, run_state
from tests.provision.plans import tiny_plan


def rows(
    run_id: str,
    *,
    predicted: float,
    measured: float,
    steps: int = 100,
    gpu: str = "L4",
    num_gpus: int = 1,
    quant: str = "nf4",
    learned: float = 1.0,
    version: str = "1.0",
    at: str = "cloud/large",
    random: bool = False,
) -> tuple[Calibration, ...]:
    """A run's rows as its books write them."""
    provider, instance_type = at.split("/")
    tiny = tiny_plan(Path("/model"), Path("/data"), steps=steps)
    plan = msgspec.structs.replace(
        tiny,
        gpu=None if gpu == "cpu" else make_gpu(gpu),
        offer=msgspec.structs.replace(tiny.offer, provider=provider, instance_type=instance_type),
        strategy=msgspec.structs.replace(tiny.strategy, quant=quant, num_gpus=num_gpus),
        duration=msgspec.structs.replace(tiny.duration, step_s=exactly(predicted), learned=learned),
        versions={"rentune": version},
    )
    receipt = receipt_of(plan, run_state(plan, run_id=run_id), outcome_of(measured=Measured(step_s=measured, steps=steps)))
    return calibrations(plan, msgspec.structs.replace(receipt, base=BaseUsed(random=random)))


def written(folder: Path, *kinds: tuple[Calibration, ...], more: bytes = b"") -> tuple[Seen, ...]:
    """What release 1.0 reads of these rows."""
    path = folder / "calibration.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for kind in kinds for row in kind) + more)
    return read_seen(path, version="1.0")


def test_a_rehearsal_on_random_weights_teaches_nothing(tmp_path: Path) -> None:
    """Its shape is often of two layers, whose step is all overhead: two of them made a real model's plan twice as slow."""
    assert written(tmp_path, rows("a", predicted=0.02, measured=0.06, random=True)) == ()
    [seen] = written(tmp_path, rows("a", predicted=0.02, measured=0.06, random=True), rows("b", predicted=1.0, measured=1.1))
    assert seen.num_runs == 1
    assert math.exp(seen.mean_log) == pytest.approx(1.1)


def test_a_run_that_shared_its_machine_teaches_nothing(tmp_path: Path) -> None:
    """A run beside another told later plans 35 tokens/s where one alone made 159."""
    slow = tuple(msgspec.structs.replace(row, shared=True) for row in rows("a", predicted=1.0, measured=4.0))
    alone = rows("b", predicted=1.0, measured=1.1)
    assert written(tmp_path, slow) == ()
    assert written(tmp_path, slow, alone) == written(tmp_path, alone)


@pytest.mark.parametrize(
    ("other", "is_shared"),
    [
        ((50.0, 150.0), True),
        ((150.0, None), True),
        ((0.0, 100.0), False),
        ((200.0, 300.0), False),
    ],
)
def test_a_machine_was_shared_where_another_run_was_on_it_meanwhile(other: tuple[float, float | None], is_shared: bool) -> None:
    """From 100 to 200 s. On rented machines every run is alone."""
    plan = tiny_plan(Path("/model"), Path("/data"))

    def state(run_id: str, span: tuple[float, float | None], provider: str = "local") -> RunState:
        offer = msgspec.structs.replace(plan.offer, provider=provider)
        rental = Rental(
            offer=offer, billing=plan.billing, disk_gib=1, asked_at_s=span[0], started_at_s=span[0], ended_at_s=span[1]
        )
        return run_state(plan, run_id=run_id, rentals=(rental,))

    def asked(provider: str) -> bool:
        runs = (state("a", (100.0, 200.0), provider), state("b", other, provider))
        return was_shared("a", runs, now_s=1_000.0)

    assert asked("local") == is_shared
    assert not asked("aws")


def test_runs_of_a_kind_are_one_mean(tmp_path: Path) -> None:
    """By card, how many of them, quantization and machine; a CPU's runs are another stack's, and its cores their seller's."""
    found = written(
        tmp_path,
        rows("a", predicted=1.0, measured=1.1),
        rows("b", predicted=2.0, measured=2.6),
        rows("c", predicted=1.0, measured=1.0, gpu="cpu", quant="none", at="local/this-machine"),
        rows("d", predicted=1.0, measured=2.0, num_gpus=8),
        rows("e", predicted=1.0, measured=4.0, at="cloud/small"),
    )
    large, small, own = machine_of("cloud", "large"), machine_of("cloud", "small"), machine_of("local", "this-machine")
    assert [(each.stack, each.gpu, each.num_gpus, each.quant, each.machine, each.num_runs) for each in found] == [
        (GPU_STACK, "L4", 1, "nf4", large, 2),
        (GPU_STACK, "L4", 1, "nf4", small, 1),
        (GPU_STACK, "L4", 8, "nf4", large, 1),
        (CPU_STACK, cores_of("local"), 1, "none", own, 1),
    ]
    assert found[0].mean_log == pytest.approx((math.log(1.1) + math.log(1.3)) / 2)


def test_what_a_plan_had_learned_is_taken_out_again(tmp_path: Path) -> None:
    """Else a right correction would be unlearned by the run that proves it."""
    [found] = written(tmp_path, rows("a", predicted=1.3, measured=1.3, learned=1.3))
    assert found.mean_log == pytest.approx(math.log(1.3))


def test_what_another_release_missed_teaches_nothing(tmp_path: Path) -> None:
    """It may have put its constant right since: the old rows would correct it once more."""
    assert written(tmp_path, rows("a", predicted=1.0, measured=1.5, version="0.9")) == ()
    assert len(written(tmp_path, rows("a", predicted=1.0, measured=1.5))) == 1


def test_short_runs_wild_ones_and_broken_lines_teach_nothing(tmp_path: Path) -> None:
    """A line that another version wrote, or half of one, is no reason to refuse a plan."""
    short, wild = rows("a", predicted=1.0, measured=1.5, steps=5), rows("b", predicted=1.0, measured=50.0)
    nothing = rows("c", predicted=0.0, measured=1.0)
    assert written(tmp_path, short, wild, nothing, more=b'{"run_id": "d"}\n\xff\n{"half') == ()
