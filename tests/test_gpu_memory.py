"""The GPU campaign, rehearsed on the CPU: every case is built, stepped and written; none of CUDA's figures is claimed.

The comparison is shown with figures made up here; benchmarks/results has those of a card.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.estimates.gpu_memory import FAMILIES, FLAGSHIPS, LAST, MODELS, VARIATIONS, WAYS, cases
from benchmarks.estimates.gpu_memory_compare import Pair, pairs, table
from catalogs.catalog import read_catalog
from planner.estimate import answer
from remote.contract import Strategy

ROOT = Path(__file__).parents[1]
CATALOG = read_catalog()


def test_the_campaign_asks_for_enough_and_each_but_once() -> None:
    """At least 60 cases in nine minutes; every one has an estimate to be compared with."""
    asked = list(cases("cuda"))
    tables = len(MODELS) * len(VARIATIONS) + len(FLAGSHIPS) + len(FAMILIES) + len(WAYS) + len(LAST)
    assert len({case.name for case in asked}) == len(asked) == tables >= 60
    unanswered = {case.name for case in asked if "error" in answer(case.case, CATALOG, None)}
    assert unanswered == set()


def rehearse(out: Path, *only: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.estimates.gpu_memory", "--device", "cpu", "--out", out, "--only", *only],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.torch
def test_a_rehearsal_runs_cases_in_processes_of_their_own_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """4-bit and 8-bit: the same code as on a card. What stands in the file is passed over, a cut-off line is run again."""
    out = tmp_path / "dry.jsonl"
    out.write_text('{"name": "vera/llama-3.2-1b"}\n{"name": "int8/llama-3.2-1b", "end')  # as a killed campaign leaves it
    assert "2 cases run, 1 stood" in rehearse(out, "vera/llama-3.2-1b", "int8/llama-3.2-1b", "nf4_upcast/llama-3.1-8b")
    run = [json.loads(line) for line in out.read_text().splitlines()[2:] if line]
    assert [line["name"] for line in run] == ["nf4_upcast/llama-3.1-8b", "int8/llama-3.2-1b"]
    for line in run:
        assert line["end"] == "measured"
        assert line["loss"] > 0
        assert line["step_s"] > 0
        assert "no figure of CUDA" in line["figures"]
        assert line["allocated_bytes"] is line["reserved_peak_bytes"] is line["process_bytes"] is None


@pytest.mark.torch
@pytest.mark.parametrize("double_quant", [False, True])
def test_random_four_bit_weights_lie_as_bitsandbytes_own(double_quant: bool) -> None:
    """Byte for byte as large, and in the same pieces, as what quantizing real weights makes."""
    import bitsandbytes
    import torch

    from remote.measure.random_weights import random_model

    config = {
        "model_type": "llama",
        "hidden_size": 96,
        "intermediate_size": 160,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 64,
        "tie_word_embeddings": False,
    }
    strategy = Strategy(method="lora", rank=4, quant="nf4", double_quant=double_quant)
    linear = random_model(config, strategy, "cpu").model.layers[0].mlp.down_proj
    real, state = bitsandbytes.functional.quantize_4bit(
        torch.randn(96, 160, dtype=torch.bfloat16), compress_statistics=double_quant, quant_type="nf4"
    )
    assert (linear.weight.shape, linear.weight.dtype) == (real.shape, real.dtype)
    assert layout(linear.weight.quant_state) == layout(state)
    weights = bitsandbytes.functional.dequantize_4bit(linear.weight.data, linear.weight.quant_state)
    assert weights.shape == (96, 160)
    assert bool(weights.isfinite().all())


def layout(state: Any) -> dict[str, tuple[object, ...]]:
    """Shape and dtype of every tensor of a quantization's state."""
    tensors = {"absmax": state.absmax, "code": state.code}
    if state.nested:
        tensors |= {"offset": state.offset, "absmax2": state.state2.absmax, "code2": state.state2.code}
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}


# ── the comparison ─────────────────────────────────────────────────────────────────────────────────────────────────────


def made_up(factor: float) -> dict[str, Any]:
    """A line as a campaign writes it, a double: what the closed form says, times `factor`."""
    case = next(iter(cases("cuda"))).case
    vram = answer({**case, "gpu": "H100 SXM5"}, CATALOG, None)["vram"]
    parts = vram["components"]

    def scaled(size: int) -> int:
        return round(size * factor)

    adapter = parts["weights"] + parts["adapter"]
    return {
        "name": "lora/llama-3.2-1b",
        "figures": "CUDA",
        "case": case,
        "end": "measured",
        "device_name": "NVIDIA H100 80GB HBM3",
        "allocated_bytes": {
            "weights": scaled(parts["weights"]),
            "adapter": scaled(adapter),
            "states": scaled(adapter + parts["optimizer"] + parts["workspaces"]),
            "step": scaled(vram["allocated_peak_bytes"]),
            "evaluation": scaled(vram["evaluation_peak_bytes"]),
        },
        "reserved_peak_bytes": scaled(vram["reserved_peak_bytes"]),
        "process_bytes": scaled(vram["process_peak_bytes"]),
        "context_bytes": scaled(vram["process_peak_bytes"] - vram["reserved_peak_bytes"]),
    }


@pytest.mark.parametrize(("factor", "error"), [(1.0, 0.0), (1.25, -0.2)])
def test_a_comparison_finds_the_error_that_is_there(factor: float, error: float) -> None:
    found = list(pairs(iter([made_up(factor)]), CATALOG, "closed_form"))
    errors = {pair.quantity: pair.error for pair in found if isinstance(pair, Pair)}
    assert {
        "allocated",
        "reserved",
        "process",
        "weights",
        "adapter",
        "optimizer and workspaces",
        "evaluation",
        "above what lies",
    } <= set(errors)
    assert errors == pytest.approx(dict.fromkeys(errors, error), abs=1e-3)


def test_what_holds_no_figure_of_cuda_is_left_out_and_said() -> None:
    rehearsal = made_up(1.0) | {"allocated_bytes": None, "figures": "rehearsal on a CPU: no figure of CUDA"}
    found = list(pairs(iter([rehearsal]), CATALOG, "closed_form"))
    assert found == ["lora/llama-3.2-1b: measured, rehearsal on a CPU: no figure of CUDA"]
    assert "left out: lora/llama-3.2-1b" in table([], [str(found[0])])
