"""A device must compute right, and not only compute. On the processor here: the same kernels' other build."""

from __future__ import annotations

from typing import Any

import pytest

from remote.contract import EndReason, Strategy
from remote.ends import Ended
from remote.machine.arithmetic import TOLERANCE, check_arithmetic

pytestmark = pytest.mark.torch

PRECISIONS: dict[str, dict[str, Any]] = {
    "nf4": {"quant": "nf4"},
    "nf4, scales packed as well": {"quant": "nf4", "double_quant": True, "quant_storage": "bfloat16"},
    "nf4 in fp16": {"quant": "nf4", "autocast": "float16"},
    "fp4": {"quant": "fp4", "autocast": "none", "param_dtype": "float32"},
    "int8": {"quant": "int8"},
    "bf16": {},
    "fp32": {"param_dtype": "float32", "autocast": "none"},
}


@pytest.mark.parametrize("name", PRECISIONS)
def test_a_product_is_right_within_rounding(name: str) -> None:
    error = check_arithmetic(Strategy(method="lora", **PRECISIONS[name]), "cpu")
    assert 0 < error < TOLERANCE / 3


@pytest.mark.parametrize(
    ("kernel", "precision"), [("matmul_4bit", "nf4"), ("matmul_4bit", "nf4, scales packed as well"), ("matmul", "int8")]
)
def test_a_kernel_that_runs_and_is_wrong_in_a_single_place_is_refused(
    kernel: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import bitsandbytes

    right = getattr(bitsandbytes, kernel)

    def wrong(*args: Any, **said: Any) -> Any:
        made = right(*args, **said).clone()
        made[3, 5] = -made[3, 5] + 10
        return made

    monkeypatch.setattr(bitsandbytes, kernel, wrong)
    with pytest.raises(
        Ended, match=r"computes a product in (nf4|int8) wrong: an output is off by .* another one is the cure"
    ) as end:
        check_arithmetic(Strategy(method="lora", **PRECISIONS[precision]), "cpu")
    assert end.value.reason is EndReason.PREFLIGHT


def test_a_weight_that_was_packed_wrong_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product of what was packed is right then, and yet of another weight."""
    import bitsandbytes

    packed = bitsandbytes.functional.quantize_4bit
    monkeypatch.setattr(bitsandbytes.functional, "quantize_4bit", lambda weight, **said: packed(-weight, **said))
    with pytest.raises(Ended, match="a packed weight is off by"):
        check_arithmetic(Strategy(method="lora", quant="nf4"), "cpu")


def test_a_kernel_that_is_missing_is_told_as_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    import bitsandbytes

    def missing(*_args: Any, **_said: Any) -> Any:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore lines")

    monkeypatch.setattr(bitsandbytes, "matmul_4bit", missing)
    with pytest.raises(Ended, match="a product in nf4 can't be computed on this processor: CUDA error: no kernel image") as end:
        check_arithmetic(Strategy(method="lora", quant="nf4"), "cpu")
    assert "\n" not in str(end.value)
