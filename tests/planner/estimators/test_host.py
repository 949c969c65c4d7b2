"""RAM and disk of the box."""

from __future__ import annotations

from typing import Any

import pytest

from catalogs.models import resolve_model
from planner.asking.case import read_case, stack_of, strategy_of
from planner.estimators.host import (
    ENFORCED_RAM_SHARE,
    USABLE_RAM_SHARE,
    download_bytes,
    estimate_host,
    ram_verdict,
    usable_ram_bytes,
)
from planner.plan import HostEstimate
from planner.units import GIB
from provision.direct import limits


def host(model: str, *, on_cpu: bool = False, num_checkpoints: int = 2, **said: Any) -> HostEstimate:
    case = read_case({"model": model, **said})
    return estimate_host(
        resolve_model(model),
        strategy_of(case),
        num_gpus=case.num_gpus,
        on_cpu=on_cpu,
        task=case.task,
        stack=stack_of(case),
        num_checkpoints=num_checkpoints,
    )


def test_parts_sum() -> None:
    for on_cpu in (False, True):
        estimate = host("smollm2-135m", on_cpu=on_cpu)
        assert sum(estimate.ram_components.values()) == estimate.ram_peak_bytes
        assert sum(estimate.disk_components.values()) == estimate.disk_peak_bytes


@pytest.mark.parametrize(("checkpointing", "measured_mb"), [("off", 2950), ("non_reentrant", 2141)])
def test_a_cpu_took_about_what_is_predicted(checkpointing: str, measured_mb: int) -> None:
    """Peak resident set of SmolLM2-135M's shape, LoRA r 8 all-linear, 4 × 128 tokens, fp32 (torch 2.15, 2026-11-25)."""
    said: dict[str, Any] = {"rank": 8, "micro_batch_size": 4, "seq_len": 128, "param_dtype": "float32", "autocast": "none"}
    estimate = host("smollm2-135m", on_cpu=True, gradient_checkpointing=checkpointing, **said)
    assert estimate.ram_peak_bytes / 1e6 == pytest.approx(measured_mb, rel=0.05)


def test_the_download_is_sixteen_bits_or_what_is_packed_already() -> None:
    mistral = resolve_model("mistral-7b")
    plain, nf4, gptq = (
        download_bytes(mistral, strategy_of(read_case({"model": "mistral-7b", "quant": quant})))
        for quant in ("none", "nf4", "gptq_int4")
    )
    assert plain == nf4 == 2 * mistral.num_params  # bitsandbytes quantizes after the download
    assert gptq < 0.3 * plain


def test_checkpoints_hold_what_is_trained_and_its_states() -> None:
    full = host("smollm2-135m", method="full").disk_components["checkpoints"]
    params = resolve_model("smollm2-135m").num_params
    assert full == 2 * (2 * params + 4 * params)  # bf16 weights and two bf16 moments, twice
    assert host("smollm2-135m").disk_components["checkpoints"] < full / 10
    assert host("smollm2-135m", method="full", num_checkpoints=1).disk_components["checkpoints"] == full // 2


def test_what_leaves_the_gpu_turns_up_in_ram() -> None:
    plain = host("7b", method="full")
    assert "optimizer" not in plain.ram_components
    assert host("7b", method="full", offload="optimizer").ram_components["optimizer"] > 7e9
    assert host("7b", optimizer="paged_adamw_32bit").ram_components["optimizer"] > 0
    assert host("7b", gradient_checkpointing="offloaded").ram_components["checkpoints"] == 28 * 2048 * 3584 * 2


@pytest.mark.parametrize(("needed_gib", "word"), [(90, "fits"), (90.1, "tight"), (95, "tight"), (95.1, "does_not_fit")])
def test_a_tenth_of_the_ram_is_not_planned_with(needed_gib: float, word: str) -> None:
    """Between that and what the local box enforces a job is tight."""
    assert ram_verdict(int(needed_gib * GIB), 100) == word
    assert (word == "fits") == (needed_gib * GIB <= usable_ram_bytes(100))


def test_what_is_enforced_is_what_the_local_box_limits() -> None:
    assert ENFORCED_RAM_SHARE == limits.RAM_SHARE
    assert USABLE_RAM_SHARE < ENFORCED_RAM_SHARE


def test_ranks_of_one_node_share_its_ram() -> None:
    one, eight = host("7b"), host("7b", sharding="ddp", num_gpus=8)
    assert eight.ram_components["processes"] == 8 * one.ram_components["processes"]
    two_nodes = host("7b", sharding="ddp", num_gpus=8, num_nodes=2)
    assert two_nodes.ram_components["processes"] == 4 * one.ram_components["processes"]
