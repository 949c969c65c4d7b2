"""Every measured or assumed constant of the estimators: its value, whether it is measured, derived or assumed, and where from.

What follows from code or arithmetic alone stands beside the formula that uses it; what a measurement or a guess gave
stands here. `benchmarks/fit_constants.py` fits the constants marked "fitted" and prints them with their errors.
"""

from __future__ import annotations

from typing import Final

from planner.units import MIB

# ── around PyTorch ─────────────────────────────────────────────────────────────────────────────────────────────────────

CONTEXT_BYTES: Final[dict[str, int]] = {  # of a CUDA context after the first kernel, by GPU name
    "T4": 141 * MIB,  # measured: fitcheck-llm 0.3.1, torch 2.10, 2026-09
    "RTX 3090": 256 * MIB,  # measured: unsloth-zoo pull request 1053
    "RTX 6000 Ada": 426 * MIB,  # measured: the same, torch 2.10 with CUDA 13
    "A100-SXM4-80GB": 481 * MIB,  # measured: 0.47 GiB with lazy loading, stas00/ml-engineering
    "A100-SXM4-40GB": 481 * MIB,
    "A100-PCIE-80GB": 481 * MIB,
    "A100-PCIE-40GB": 481 * MIB,
}
CONTEXT_BYTES_ELSE: Final = 512 * MIB  # assumed: no published figure for Hopper, Blackwell and the rest was found

NCCL_BYTES: Final = 1536 * MIB  # assumed: between 1 and 2 GB per GPU (nccl issues 864 and 1685), outside torch's counters

# What the caching allocator holds beyond what is allocated, after many steps: small tensors that outlive a step (states,
# gradients) sit in the segments of the logits, whose successors then need segments of their own.
# fitted: 67 PEFT runs of fms-acceleration on A100-80GB, nvidia-smi less allocated; median error of the process 2.6 %.
# After a single step it is far less (fitcheck-llm on T4: 0.65 of a block's hump): this errs on the safe side there.
CACHED_BYTES_PER_LOGIT: Final = 6.5
CACHED_SHARE_OF_BLOCK: Final = 0.26

# ── does it fit ────────────────────────────────────────────────────────────────────────────────────────────────────────

# assumed: what a plan keeps free beyond the predicted allocation. Near capacity the allocator gives cache back, so that
# 94 % of a card has run (fms-acceleration); the closed form itself is within 2 % there.
MARGIN_SHARE: Final = 0.03
MARGIN_SHARE_FULL: Final = 0.06  # assumed: full fine-tuning fragments more
