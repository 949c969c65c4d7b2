"""Bases that others have packed, by the libraries that pack and read them, in an environment over the box's stack."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import msgspec
import pytest
from safetensors import safe_open

from catalogs.bases.models import resolve_model
from planner.strategy.packed import packed_by_others
from planner.strategy.precision import quantized_bytes
from planner.units import rounded
from remote.contract import EndReason, Outcome
from tests.remote.bases.others import PACK, PLANNED, WIDTH, Found

pytestmark = [pytest.mark.packed, pytest.mark.torch, pytest.mark.long, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / "build" / "packed" / "bin" / "python"
LINEARS = {"gptq": "TorchLinear", "awq": "AwqTorchLinear", "hqq": "HQQLinear"}  # with a backward pass, and built by no compiler
TENSORS = {
    "gptq": ("qweight", "qzeros", "scales", "g_idx"),
    "awq": ("qweight", "qzeros", "scales"),
    "hqq": ("W_q", "scale", "zero"),
}
FEATURES = {"self_attn.q_proj": (64, 64), "mlp.up_proj": (64, 128), "mlp.down_proj": (128, 64)}
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def weights(outcome: Outcome) -> str:
    return next(file.sha256 for file in outcome.adapter if file.path == "adapter_model.safetensors")


def ran(*arguments: str, cwd: Path, environment: dict[str, str] = ENVIRONMENT) -> str:
    done = subprocess.run([str(PYTHON), *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def require_planned_bytes(how: str, packed: Path) -> None:
    """What a plan counts for a linear is what its library wrote of it, each tensor in an allocation of its own."""
    by_others = packed_by_others(resolve_model(str(packed), base=Path("/")))
    assert by_others is not None
    assert (by_others.quant, by_others.group_size) == (PLANNED[how], WIDTH["group_size"])
    with safe_open(packed / "model.safetensors", "pt") as file:
        for name in ("self_attn.q_proj", "mlp.up_proj", "mlp.down_proj"):
            written = [file.get_tensor(f"model.layers.0.{name}.{part}") for part in TENSORS[how]]
            fan_in, fan_out = FEATURES[name]
            planned = quantized_bytes(
                by_others.quant,
                double_quant=False,
                in_features=fan_in,
                out_features=fan_out,
                group_size=by_others.group_of(fan_in),
            )
            assert planned == sum(rounded(tensor.nbytes) for tensor in written)


@pytest.mark.parametrize("how", PACK)
def test_a_base_that_others_packed_is_trained_over_comes_home_and_answers(how: str, tmp_path: Path) -> None:
    """Its weights are those that were packed (none drawn at random), and a stopped run goes on to the same bytes."""
    ran("-m", "tests.remote.bases.others", how, str(tmp_path), cwd=tmp_path)
    require_planned_bytes(how, tmp_path / "packed")
    found = msgspec.json.decode((tmp_path / "found.json").read_bytes(), type=Found)
    assert found.linear == LINEARS[how]
    assert found.drift < 0.25, "drawn at random they would be off by more than their own size"
    assert found.whole.reason == EndReason.COMPLETED, found.whole.message
    assert found.whole.before is not None
    assert found.whole.after is not None
    assert found.whole.after.mean_loss < 0.95 * found.whole.before.mean_loss
    assert found.stopped.reason == EndReason.INTERRUPTED
    assert weights(found.resumed) == weights(found.whole)
    alone = {name: value for name, value in ENVIRONMENT.items() if name != "PYTHONPATH"}
    output = tmp_path / "unbroken" / "output"
    tuned, untuned = (
        ran("try.py", "What is 1 plus 2?", "--max-tokens", "4", *more, cwd=output, environment=alone)
        for more in ([], ["--without-adapter"])
    )
    assert tuned != untuned
