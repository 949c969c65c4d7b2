"""Bytes of quantized weights, against hand counts and the figures of their papers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.refusals import Unsupported
from planner.strategy.precision import quantized_bytes

SQUARE = {"in_features": 4096, "out_features": 4096}
WEIGHTS = 4096 * 4096


def test_nf4_is_half_a_byte_a_scale_per_block_and_a_code_table() -> None:
    by_hand = WEIGHTS // 2 + 4 * WEIGHTS // 64 + 512  # the 64-byte table takes one 512-byte grain
    assert quantized_bytes("nf4", double_quant=False, **SQUARE) == by_hand


@pytest.mark.parametrize(
    ("quant", "double", "bits"),
    [
        ("nf4", False, 4.5),
        ("nf4", True, 4.127),  # 0.127 bits for the scales: QLoRA's paper (arXiv:2305.14314), section 3
        ("fp4", True, 4.127),
        ("int8", False, 8.008),
        ("gptq_int4", False, 4.16),
        ("awq_int4", False, 4.156),  # a 16-bit scale and a packed zero per 128
        ("hqq_int4", False, 4.5),  # a 16-bit scale and a 16-bit zero per 64
        ("hqq_int3", False, 3.7),  # ten weights in 32 bits
        ("hqq_int2", False, 2.5),
        ("mxfp4", False, 4.25),  # OCP Microscaling Formats 1.0: a shared exponent per 32
        ("fp8", False, 8.002),
    ],
)
def test_bits_per_weight(quant: str, double: bool, bits: float) -> None:
    measured = 8 * quantized_bytes(quant, double_quant=double, **SQUARE) / WEIGHTS
    assert measured == pytest.approx(bits, abs=0.01)


def test_a_quant_without_a_count_is_refused_by_name() -> None:
    with pytest.raises(Unsupported, match="aqlm has no closed form"):
        quantized_bytes("aqlm", double_quant=False, **SQUARE)


@given(fan_in=st.integers(64, 20_000), fan_out=st.integers(64, 20_000))
def test_double_quantization_never_costs_more_on_real_sizes(fan_in: int, fan_out: int) -> None:
    plain, double = (quantized_bytes("nf4", double_quant=on, in_features=fan_in, out_features=fan_out) for on in (False, True))
    grain = 4 * 512  # four more small storages, each rounded up
    assert double <= plain + grain
