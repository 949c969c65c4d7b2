"""What a measurement or a guess gave for memory on the card, speed and energy: each value, its basis, and where from.

What follows from code or arithmetic alone stands beside the formula that uses it. So do figures that one place alone needs:
seconds of phases in `phases.py`, RAM and disk in `host.py`. `benchmarks/offers/fit_constants.py` fits the constants marked
"fitted" and prints them with their errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from planner.plan import Range
from planner.units import GB, MB, MIB

# ── around PyTorch ─────────────────────────────────────────────────────────────────────────────────────────────────────

CONTEXT_BYTES: Final[dict[str, int]] = {  # of a CUDA context after the first kernel, by GPU name
    "T4": 141 * MIB,  # measured: fitcheck-llm 0.3.1, torch 2.10, 2026-09
    "RTX 3090": 256 * MIB,  # measured: unsloth-zoo pull request 1053
    "RTX 6000 Ada": 426 * MIB,  # measured: the same, torch 2.10 with CUDA 13
    "RTX 4060 Ti 8GB": 107 * MIB,  # measured: llama.cpp pull request 23604, cudaMemGetInfo against NVML, 2026-05
    "RTX 4060 Ti 16GB": 107 * MIB,  # measured: the same
    "RTX PRO 6000": 555 * MIB,  # measured: the same
    "H200 SXM": 758 * MIB,  # measured: NVML less reserved, torch 2.11 with CUDA 13.0, 2026-11-27 (benchmarks/results)
    "A100-SXM4-80GB": 481 * MIB,  # measured: 0.47 GiB with lazy loading, stas00/ml-engineering
}
CONTEXT_BYTES_ELSE: Final = 555 * MIB  # measured: the most that any of these takes; assumed of one that is named and unknown

# A context grows with the multiprocessors that a card has; the most that a measured card takes for each, by memory.
CONTEXT_PER_MULTIPROCESSOR: Final[dict[str, float]] = {
    "HBM": 481 / 108 * MIB,  # derived: of the A100
    "GDDR": 141 / 40 * MIB,  # derived: of the T4; the other four take 3.0 to 3.2 MiB
    "LPDDR": 141 / 40 * MIB,  # assumed: as with GDDR
}

# derived: NCCL's defaults (init.cc, device.h): 32 channels, each receiving on a ring and on a tree from four, with a buffer of
# 4 MiB, 4,915,200 B and 512 KiB for its three protocols. Reports lie between 1 and 2 GB per GPU (nccl issues 864 and 1685).
NCCL_BYTES: Final = 32 * (1 + 4) * (4 * MIB + 4_915_200 + MIB // 2)

# What the caching allocator holds beyond what is allocated: bytes per logit that is made whole, and a share of the most that a
# block holds in its backward, what it keeps included. Why a trainer's loop caches so much more than a bare one is not known;
# verdicts stand on neither.
CACHED_BY_TRAINER: Final = (6.5, 0.26)  # fitted: 67 PEFT runs under TRL (fms-acceleration, A100), nvidia-smi less allocated
CACHED_BY_BARE_LOOP: Final = (0.5, 0.65)  # fitted: 35 runs of one step (fitcheck-llm, T4), reserved less allocated
BARE_LOOPS: Final = frozenset({"transformers", "torchtune", "litgpt"})  # stacks whose loop is a few lines of their own

# ── does it fit ────────────────────────────────────────────────────────────────────────────────────────────────────────

# assumed: what a plan keeps free beyond the predicted allocation. Near capacity the allocator gives cache back, so that
# 94 % of a card has run (fms-acceleration); the closed form itself is within 2 % there.
MARGIN_SHARE: Final = 0.03
# measured: full fine-tuning fragments more; a run whose tensors take 78.5 of 85.9 GB ran out of memory (the same source)
MARGIN_SHARE_FULL: Final = 0.10

# What a driver reports and torch can never have, the most of any card of its kind for those whose total nobody saw.
# measured: `torch_memory_gib` beside `driver_memory_mib`, 26 cards of the catalog; drivers before R525 (8 of them) report what
# torch has, within 5 MiB
WITHHELD_BYTES: Final[dict[str, int]] = {
    "HBM": 870 * MIB,  # A100-SXM4-80GB; the other five 480 to 616 MiB
    "GDDR": 612 * MIB,  # L40S; the other eleven 259 to 572 MiB
    "LPDDR": 612 * MIB,  # assumed: as with GDDR
}
# derived: the least share of what it is sold with that torch totals on any card (T4: 14.563 of 16 GiB), for cards of which
# nobody told even what their driver reports
TOTAL_SHARE: Final = 0.91

# assumed: the share of a peak that may rest on assumptions before "fits" becomes "tight", whatever room there is
MAX_ASSUMED_SHARE: Final = 0.05

# Fitted on 624 runs (fms-acceleration, MosaicML MPT, Qwen, torchtune, MLPerf 4.0 and 4.1) by
# benchmarks/offers/fit_constants.py, whose output in benchmarks/results shows what each group is left with.

# ── speed ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

COMPUTE_EFFICIENCY: Final = 0.98  # fitted: of the best matmul
# derived: FlashAttention-2 reaches 50 to 73 % of an A100's peak where a matmul reaches 87 % (arXiv:2307.08691)
ATTENTION_PENALTY: Final = 1.6
ATTENTION_PENALTY_BY_CAPABILITY: Final[dict[tuple[int, ...], float]] = {
    (8, 6): 1.3,  # assumed: as on Ada
    (8, 7): 1.3,  # assumed: the same
    # Forward 162 of a matmul's 165 TFLOP/s on an RTX 4090: 2.1 times that are the 340 of arXiv:2410.02367.
    (8, 9): 1.3,  # derived: as the line above has it; assumed: backward at two thirds
    (9, 0): 2.3,  # derived: it reaches 35 % of an H100's peak, a matmul 80 % (arXiv:2407.08608)
    (10, 0): 3.0,  # assumed: between Hopper's penalty at twice the matmul, and kernels made for the card
    (10, 3): 3.0,  # assumed: the same
    (12, 0): 1.3,  # derived: as on Ada, whose instructions these cards have
    (12, 1): 1.3,  # derived: the same
}
# How many times as long FlashAttention's first version takes, by the library that brings it
FIRST_FLASH_PENALTY: Final[Mapping[str, float]] = {
    "flash-attn": 2.3,  # derived: the middle of 1.7 to 3.0 (arXiv:2307.08691)
    "triton-pre-mlir": 1.8,  # derived: the middle of 1.3 to 2.5, its kernel in Triton (the same)
    "torch": 2.0,  # derived: "around 2x" in the release notes of torch 2.2
}
EFFICIENT_ATTENTION_PENALTY: Final = 2.0  # derived: xformers' kernel against FlashAttention-2 on an A100 (arXiv:2307.08691)
# Bytes per pair of tokens and head, counted in transformers' eager_attention_forward: scores, scale, mask, softmax in fp32, its
# cast and the second product; backward the same way back.
SCORE_BYTES_FORWARD: Final = 24.0  # derived
SCORE_BYTES_BACKWARD: Final = 26.0  # derived
ATTENTION_BACKWARD: Final = 2.5  # derived: five products where forward has two (the same)
OWN_ATTENTION_STACKS: Final = frozenset({"nemo", "megatron"})  # cuDNN's kernels, made for each card
BANDWIDTH_SHARE: Final = 0.85  # assumed: of the datasheet's memory bandwidth
ALPHA: Final = 56.0  # fitted: hidden-sized reads and writes per block and pass beside those that follow
ALPHA_COMPILED: Final = 20.0  # derived: what products and attention read and write; the rest is part of its neighbours' kernels
# Elements read and written per element and pass, in 16-bit elements, counted in transformers' code.
NORM_EAGER: Final[dict[str, float]] = {
    "rms": 17.0,  # derived: to fp32, square, mean, product, back, weight: seven kernels
    "rms_fp32": 17.0,  # derived: the same, the weight before the cast
    "rms_t5": 17.0,  # derived: the same without a cast
    "layer": 5.0,  # derived: one kernel, with a cast under autocast
}
NORM_FUSED: Final = 2.5  # derived: read, written, statistics
ROTARY_EAGER: Final = 8.0  # derived: two products, a half turned, a sum
ROTARY_FUSED: Final = 2.0  # derived: read and written
GATED_MLP: Final = 5.0  # derived: an activation read and written, a product of two
PLAIN_MLP: Final = 2.0  # derived: an activation read and written
BETA_EAGER: Final = 6.4  # fitted: the same per wrapped linear's input and output
BETA_FUSED: Final = 2.5  # fitted
# derived: bytes read and written per logit, forward and backward; a cast, a shift and the softmax in fp32, unless in place
LOGIT_BYTES: Final[dict[str, float]] = {
    "hf": 40.0,
    "hf_shifted": 48.0,
    "chunked": 40.0,
    "chunked_logits": 40.0,
    "liger": 10.0,
    "fused_inplace": 10.0,
}
# derived from remote/losses.py: softmax and gradient by torch's own kernels move what transformers' loss moves, once more in
# "chunked". measured: "liger" is no quicker than "hf" (one NVIDIA H200, Llama 3.1 8B, 2026-11-27)
OWN_LOGIT_BYTES: Final[dict[str, float]] = {"chunked": 60.0, "liger": 40.0}
KAPPA_EARLY: Final = 22.0  # fitted: bytes moved per weight and pass by GPTQ's kernels of 2023
KERNELS_SINCE: Final = (4, 36)  # assumed: transformers' release from which GPTQ came with kernels in Triton
OPTIMIZER_BYTES_16: Final = 28.0  # fitted: bytes that AdamW moves per 16-bit parameter and step
OPTIMIZER_BYTES_32: Final = 60.0  # fitted: per fp32 parameter and step
NEWTON_SCHULZ_STEPS: Final = 5  # derived: the default of torch.optim.Muon
OPTIMIZER_BYTES_HOST: Final = 32.0  # derived: fp32 master and two moments read and written, the gradient read, the copy written
HOST_MEMORY_GB_PER_S: Final = 20.0  # assumed: of a rank's share of a server's memory bandwidth
LAUNCH_S: Final = 17e-6  # fitted: seconds of Python and of the driver per launch, hosts of published runs
PLAYED_LAUNCH_S: Final = 2e-6  # assumed, 2026-11-28: from one short kernel to the next of a CUDA graph; not timed here
PACKED_KERNELS: Final = 2.0  # derived: kernels among PACKED_LAUNCHES, with double quantization
CHECKPOINT_LAUNCHES: Final = 75.0  # fitted: what keeping and taking up a block costs the host, in launches
PACKED_LAUNCHES: Final = 7.7  # fitted: a packed linear's Python per pass, in launches
HOST_S_PER_UNIT: Final = 0.8e-3  # fitted: of a block that FSDP gathers, per pass; the GPU waits for it
HOST_PER_MATRIX: Final = 1 / 4  # measured: of a unit that is one small matrix, as a share of a block's (the same runs)
LAUNCHES_PER_EXPERT: Final = 13.0  # fitted: of an expert that Python multiplies by itself, per pass
EXPERT_HALF_WIDTH: Final = 5600.0  # fitted: width of an expert at which its matmuls run at half the best speed
LOW_PRECISION_SPEEDUP: Final = 1.5  # fitted: of an 8-bit product against a 16-bit one, its casts included
NVFP4_SPEEDUP: Final = 2.2  # assumed: the products of 4 bits take half of those of 8, their casts as long
# derived: dense tensor cores from Ampere on make half as many products in TF32 as in bf16 (NVIDIA's datasheets of A100, H100,
# L40S, 2020 to 2023: 156 of 312, 495 of 989, 183 of 362 TFLOP/s); no run of it was measured
TF32_SPEED: Final = 0.5
# Products of few bits -> the architectures whose units multiply so; on any other they are as in the compute dtype.
MULTIPLIES_IN: Final[Mapping[str, frozenset[str]]] = {
    # derived: Transformer Engine wants capability 8.9; the instruction sets of CDNA3 and CDNA4, Intel's software for Gaudi
    "fp8": frozenset({"Ada", "Hopper", "Blackwell", "CDNA3", "CDNA4", "Gaudi2", "Gaudi3"}),
    "mxfp8": frozenset({"Blackwell", "CDNA4"}),  # derived: scales of a block are read by these alone
    "nvfp4": frozenset({"Blackwell"}),  # derived: the same, and a format of one maker's
}
IMPERFECT_OVERLAP: Final = 0.15  # assumed
NVLINK_SHARE: Final = 0.8  # fitted: of the datasheet's rate in one direction
PCIE_GB_PER_S: Final[dict[int, float]] = {3: 12.5, 4: 25.0, 5: 50.0, 6: 100.0}  # assumed: x16, effective
SLOWEST_PCIE: Final = 3  # assumed of a card whose generation nobody states: the oldest in use
# Gb/s that a machine has to the next one, for no price list says it of a type. Of eight GPUs on one board, by architecture;
# assumed between what the vendors' pages tell (recalled, 2026-11-28): AWS p4d 400, p5 3,200; Google a2 100, a3 1,000 to 3,200;
# Azure's ND A100 1,600, ND H100 and ND MI300X 3,200
BOARD_OF_EIGHT_GBIT_PER_S: Final[Mapping[str, Range]] = {
    "Ampere": Range(p10=1_600, p50=400, p90=100),
    "Hopper": (NEWER := Range(p10=3_200, p50=1_600, p90=400)),
    "Blackwell": NEWER,
    "CDNA3": NEWER,
    "CDNA4": NEWER,
}
# Of any other: assumed between AWS g6.xlarge, "up to 10" and 2.5 for long (recalled, 2026-11-28), and the largest of those
OTHER_GBIT_PER_S: Final = Range(p10=100, p50=10, p90=2.5)
# assumed: what one reader gets of a box's disk in large pieces; checkpoints, which are hashed and forced there, go at a rate of
# their own (phases.WRITE_BYTES_PER_S). A drive of the box's own (NVMe) reads 2 to 7 GB/s, a volume over the network 0.1 to 1 as
# it was paid for, and no price list says which; preflight measures it
READ_BYTES_PER_S: Final = Range(p10=3 * GB, p50=1 * GB, p90=GB / 3)
# Where the disk that we order reads and writes, both together, as much as its price includes and no more, by provider. derived:
# gp3's 125 MiB/s (Amazon's page of EBS volume types, recalled 2026-11-28); 140 MiB/s of Google's Hyperdisk Balanced, and of a
# persistent disk, which has 0.28 more for each GiB (docs.cloud.google.com, read 2026-11-27). assumed: a fifth less when busy
ORDERED_DISK_BYTES_PER_S: Final[Mapping[str, Range]] = {
    "aws": Range(p10=140 * MB, p50=131 * MB, p90=105 * MB),
    "gcp": Range(p10=240 * MB, p50=147 * MB, p90=118 * MB),
}
SUMS_PER_BLOCK: Final = 4  # derived: behind attention and MLP, forward and backward (Megatron-LM, arXiv:1909.08053)
RING_TRIPS: Final = 2  # derived: a sum over a ring sends every byte twice, to be added and to be handed out
NARROW_BYTES: Final = 2  # derived: of a 16-bit number

RunClass = Literal["link_bound", "other_vendor", "host_bound", "experts", "other_card", "full", "several_gpus", "one_gpu"]

# How far p10 and p90 lie from p50, as a factor. Derived by benchmarks/offers/fit_constants.py: runs are parted into classes, a
# run belongs to the first that applies, and a class's factor is exp(the 80th percentile of |ln(predicted / measured)|), rounded
# up, each run predicted by a fit that had not seen its source. In brackets: the runs, and how many of them lie inside. The
# factors fall, so the first class that applies is the widest.
SPREADS: Final[Mapping[RunClass, float]] = {
    "link_bound": 2.11,  # derived (6, 83 %); nobody knows a rented box's topology before it is measured
    "host_bound": 2.07,  # derived (23, 83 %); moves with the day and the host
    "other_vendor": 1.62,  # derived (1, 100 %); other libraries of kernels
    "other_card": 1.33,  # derived (5, 80 %); other cards' matmul rate is often assumed; other adapters too, as wide
    "experts": 1.31,  # derived (63, 81 %); how they are multiplied moves with the release
    "full": 1.18,  # derived (252, 81 %)
    "several_gpus": 1.16,  # derived (158, 81 %)
    "one_gpu": 1.12,  # derived (116, 84 %); PEFT of dense models
}
# How many times as long as planned a slow host takes for what it does: the 80th percentile over the 60 steps of our own
# campaign that their host held up, on two rented virtual machines.
SLOW_HOST: Final = 2.1  # derived by benchmarks/offers/fit_constants.py from benchmarks/data, 2026-11-27
MEASURED_ADAPTERS: Final = frozenset({"lora"})  # of the fitted runs; what others ask of a card is counted, and never was timed
MEASURED_ARCHITECTURES: Final = frozenset({"Ampere", "Hopper"})  # of the fitted runs: A100, H100, H200, with HBM

# ── training on a CPU ──────────────────────────────────────────────────────────────────────────────────────────────────

# measured: SmolLM2-135M, LoRA r 8 all-linear without checkpointing on two x86-64 cores (AMD EPYC, virtual), with the FLOPs of
# planner.estimators.time.demand: fp32 at 57 GFLOP/s a core in bare steps of 512 tokens (2026-11-25), at 37 in a whole run of
# `make demo` (2026-11-26, 131 tokens/s); between them 45. Under bf16 autocast bare steps were 1.5 times as fast.
CPU_GFLOPS_PER_CORE_FP32: Final = 45.0
CPU_GFLOPS_PER_CORE_BF16: Final = 68.0  # derived: 1.5 times that
CPU_CORES_ELSE: Final = 2.0  # assumed: where an offer does not say
SPREAD_CPU_FAST: Final = 1.6  # assumed: a newer core, wider vectors
SPREAD_CPU_SLOW: Final = 2.5  # assumed: other load on the same cores slows torch far more than in proportion

# ── energy ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

IDLE_SHARE_OF_BUSY: Final = 1 / 3  # measured: 2,325 of 7,157 W, 8×H100 node in MLPerf Training 4.0
BUSY_SHARE_OF_TDP_HGX: Final = 1.25  # measured: the same node, host included, against the GPUs' TDP
BUSY_SHARE_OF_TDP: Final = 0.88  # assumed: cards in slots
HOST_W: Final = 130.0  # assumed: the machine around them
CPU_W_PER_CORE: Final = 15.0  # assumed
SUPPLY_LOSS: Final = 1.03  # measured: AC against DC side, the same node
