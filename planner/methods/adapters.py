"""The tensors that each method trains on one linear. Counts are peft's (0.21, `tuners/*/layer.py`), options its own."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any, Final

from catalogs.bases.architectures import Linear
from planner.methods.layers import LAYERS
from planner.methods.method import Adapter, Dials, Kind, Launches, Places, Work
from planner.strategy.precision import BITSANDBYTES
from remote.contract import CAST_INPUT, Strategy


def _lora(linear: Linear, dials: Dials) -> tuple[int, ...]:
    """A down, B up."""
    return dials.rank * linear.in_features, dials.rank * linear.out_features


def _dora(linear: Linear, dials: Dials) -> tuple[int, ...]:
    """LoRA's, and a magnitude per output."""
    return *_lora(linear, dials), linear.out_features


def _adalora(linear: Linear, dials: Dials) -> tuple[int, ...]:
    """Right vectors, left vectors, singular values, at the rank that it starts from; `rank` is where it ends."""
    start = dials["init_r"]
    return start * linear.in_features, start * linear.out_features, start


def _loha(linear: Linear, dials: Dials) -> tuple[int, ...]:
    """Two low-rank products, multiplied entry by entry."""
    return _lora(linear, dials) * 2


def kronecker_factors(linear: Linear, dials: Dials) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns of LoKr's small and its large factor."""
    small_in, large_in = _factorized(linear.in_features, dials["decompose_factor"])
    small_out, large_out = _factorized(linear.out_features, dials["decompose_factor"])
    return (small_out, small_in), (large_out, large_in)


def _factorized(features: int, near: int) -> tuple[int, int]:
    """Two factors of `features`, the smaller first: `near` itself where it divides, else the largest not above it (-1 = √).

    The stopping rule is peft's `factorization` (tuners/lokr/layer.py), line by line.
    """
    if near > 0 and features % near == 0:
        return near, features // near
    limit = features if near == -1 else near
    small, large = 1, features
    while small < large:
        following = next(n for n in range(small + 1, features + 1) if features % n == 0)
        if following + features // following > small + large or following > limit:
            break
        small, large = following, features // following
    return min(small, large), max(small, large)


def is_factored(rows_columns: tuple[int, int], rank: int) -> bool:
    """Whether a factor of LoKr is itself a product of rank r: where that is less than half of its longer side."""
    return rank < max(rows_columns) / 2


def _lokr(linear: Linear, dials: Dials) -> tuple[int, ...]:
    """A Kronecker product of a small and a large matrix, each whole or of low rank."""
    small, large = kronecker_factors(linear, dials)
    factored = (bool(dials["decompose_both"]) and is_factored(small, dials.rank), is_factored(large, dials.rank))
    tensors: list[int] = []
    for (rows, columns), low_rank in zip((small, large), factored, strict=True):
        tensors += [rows * dials.rank, dials.rank * columns] if low_rank else [rows * columns]
    return tuple(tensors)


def oft_blocks(linear: Linear, dials: Dials) -> tuple[int, int]:
    """How many rotations stand side by side on a linear's input, and how wide each is: what was asked for, or near it."""
    wide = linear.in_features
    if dials.rank:
        count = _nearest_divisor(wide, dials.rank)
        return count, wide // count
    width = _nearest_divisor(wide, dials["oft_block_size"])
    return wide // width, width


def _nearest_divisor(features: int, wanted: int) -> int:
    """The divisor nearest to `wanted`, the lower of two equally near ones."""
    if wanted >= features:
        return features
    divisors = (n for n in range(1, features + 1) if features % n == 0)
    return min(divisors, key=lambda n: (abs(n - wanted), n))


def _oft(linear: Linear, dials: Dials) -> tuple[int, ...]:
    """The upper triangle of a skew-symmetric matrix per block, or one for all blocks."""
    count, width = oft_blocks(linear, dials)
    return ((1 if dials["block_share"] else count) * (width * (width - 1) // 2),)


def boft_blocks(linear: Linear, dials: Dials) -> tuple[int, int]:
    """How many rotations, and how wide each is."""
    count = dials["boft_block_num"] or linear.in_features // dials["boft_block_size"]
    return count, linear.in_features // count


def _boft(linear: Linear, dials: Dials) -> tuple[int, ...]:
    """A square matrix per block, and a scale per output. One butterfly factor: peft has more only where it compiles CUDA."""
    count, width = boft_blocks(linear, dials)
    return count * width * width, linear.out_features


def _vera(linear: Linear, dials: Dials) -> tuple[int, ...]:
    """Two scales; both projections are random, frozen and shared by all linears."""
    return linear.out_features, dials.rank


def _fourierft(_linear: Linear, dials: Dials) -> tuple[int, ...]:
    """So many coefficients of the update's spectrum."""
    return (dials["n_frequency"],)


def scaled_before(linear: Linear) -> bool:
    """Whether IA³ scales what comes into a linear: the last of an MLP, and what is named like BERT's, which ends attention too.

    derived: `feedforward_modules`, which peft 0.21 compares with the end of a path (tuners/ia3/model.py).
    """
    return linear.role == "down" or linear.name.endswith("output.dense")


def _ia3(linear: Linear, _dials: Dials) -> tuple[int, ...]:
    """One factor per output of an attention module, per input of a feed-forward module."""
    return (linear.in_features if scaled_before(linear) else linear.out_features,)


# `method_options` of peft's configurations that change neither what hangs on a linear nor its memory
IDLE_OPTIONS: Final = frozenset(
    {
        LAYERS,
        *("init_lora_weights", "init_weights", "use_rslora", "fan_in_fan_out", "loraplus_lr_ratio"),
        *("target_r", "tinit", "tfinal", "deltaT", "beta1", "beta2", "orth_reg_weight", "total_step"),
        *("scaling", "random_loc_seed", "projection_prng_key", "save_projection", "d_initial", "eps", "rank_dropout_scale"),
    }
)

# derived: defaults of peft's configurations (0.21, `tuners/*/config.py`); who says one of these changes nothing
AT_DEFAULT: Final[Mapping[str, Any]] = {
    "use_dora": False,
    "bias": "none",
    "lora_bias": False,
    "boft_n_butterfly_factor": 1,
    "module_dropout": 0.0,
    "rank_dropout": 0.0,
    "use_effective_conv2d": False,
    "rank_pattern": {},
    "alpha_pattern": {},
    "coft": False,
}


def _triangles(linears: Places, dials: Dials) -> int:
    """Where the entries of OFT's triangle stand in its matrix: a row and a column each, in 64 bits, as four fp32 entries."""
    widths = ((oft_blocks(linear, dials)[1], times) for linear, times in linears)
    return sum(times * 4 * (width * (width - 1) // 2) for width, times in widths)


def _permutations(linears: Places, _dials: Dials) -> int:
    """BOFT's permutation of each linear's inputs, as a square matrix."""
    return sum(times * linear.in_features**2 for linear, times in linears)


def _projections(linears: Places, dials: Dials) -> int:
    """VeRA's two, as wide as the widest linear."""
    widest = max(linear.in_features for linear, _ in linears), max(linear.out_features for linear, _ in linears)
    return dials.rank * sum(widest)


# derived: the defaults of peft's configurations (0.21, `tuners/*/config.py`)
OPTIONS: Final[Mapping[Kind, Mapping[str, Any]]] = {
    "lora": {CAST_INPUT: True},  # `cast_input_dtype_enabled` of its layers, which no configuration has
    "adalora": {"init_r": 12},
    "lokr": {"decompose_factor": -1, "decompose_both": False},
    "oft": {"oft_block_size": 32, "block_share": False, "num_cayley_neumann_terms": 5},
    "boft": {"boft_block_size": 4, "boft_block_num": 0},
    "fourierft": {"n_frequency": 1000},
}

ADALORA_STARTS_WITH: Final = 1.5  # derived: times the rank that it keeps; peft starts with 12 and keeps 8 where nothing is said


def _start_above(rank: int | None) -> dict[str, Any]:
    """AdaLoRA must start with more ranks than it keeps."""
    if rank is None or rank < OPTIONS["adalora"]["init_r"]:
        return {}
    return {"init_r": ceil(ADALORA_STARTS_WITH * rank)}


LORA: Final = Adapter("lora", _lora, OPTIONS["lora"])
DORA: Final = Adapter("dora", _dora, widens=BITSANDBYTES)
# derived: importance, its mean and uncertainty (peft's RankAllocator); an orthogonal regularization; A is scaled before use
ADALORA: Final = Adapter(
    "adalora",
    _adalora,
    OPTIONS["adalora"],
    options_at=_start_above,
    widens=frozenset({"int8"}),
    remembers=3,
    regularized=True,
    leaves=False,
)
LOHA: Final = Adapter("loha", _loha, conv1d=False)
LOKR: Final = Adapter("lokr", _lokr, OPTIONS["lokr"], conv1d=False, ranked="cut")
OFT: Final = Adapter("oft", _oft, OPTIONS["oft"], frozen=_triangles, conv1d=False, ranked="count")
BOFT: Final = Adapter("boft", _boft, OPTIONS["boft"], frozen=_permutations, conv1d=False)
VERA: Final = Adapter("vera", _vera, frozen=_projections, follows_base=True)
FOURIERFT: Final = Adapter("fourierft", _fourierft, OPTIONS["fourierft"])
IA3: Final = Adapter("ia3", _ia3, widens=BITSANDBYTES, ends_wide=BITSANDBYTES, names_blocks=False)

ADAPTERS: Final = {row.kind: row for row in (LORA, DORA, ADALORA, LOHA, LOKR, OFT, BOFT, VERA, FOURIERFT, IA3)}

# What each launches for one linear beside that one's own product, in the adapter's dtype (`planner.estimators.time.launches`).
# derived: counted in peft's layers, below autograd, without views; AdaLoRA's regularization and LoHa's product come once
LAUNCHES: Final[Mapping[Kind, Launches]] = {
    "lora": Launches(4, 6),
    "dora": Launches(19, 19),
    "adalora": Launches(7, 34, once=16),
    "loha": Launches(1, 16, once=8),
    "lokr": Launches(9, 12),
    "oft": Launches(19, 29),
    "boft": Launches(15, 18),
    "vera": Launches(7, 12),
    "fourierft": Launches(7, 8),
    "ia3": Launches(0, 2),
}

# What each asks of a card for one linear. derived: counted in peft 0.21 below autograd, under bfloat16 autocast, adapters in
# fp32 (`tests/planner/trace/test_work.py`). DoRA takes the norms of the changed weights each time, by way of a unit matrix;
# LoHa, LoKr and FourierFT make an update as large as the weights and multiply by that beside them; BOFT turns what comes in by
# matrices that it makes of permutations. LoRA's bytes are 30 and 14: by their mean, as they were fitted together.
WORK: Final[Mapping[Kind, Work]] = {
    "lora": Work(input_bytes=22, output_bytes=22),
    "dora": Work(
        ranked_weights=(1, 0),
        ranked_squares=(1, 0),
        weight_bytes=(36, 0),
        square_bytes=(10, 0),
        input_bytes=30,
        output_bytes=130,
    ),
    "adalora": Work(input_bytes=30, output_bytes=80),
    "loha": Work(products=(1, 2), ranked_weights=(2, 6), weight_bytes=(10, 24), input_bytes=6, output_bytes=6),
    "lokr": Work(products=(1, 2), weight_bytes=(18, 38), input_bytes=30, output_bytes=6),
    "fourierft": Work(products=(1, 2), weight_bytes=(70, 78), input_bytes=30, output_bytes=6),
    "oft": Work(input_bytes=60),
    "boft": Work(squares=(1, 2), cubes=(3, 3), square_bytes=(18, 10), output_bytes=46),
    "vera": Work(thin=(1, 1), input_bytes=30, output_bytes=62),
    "ia3": Work(output_bytes=46),
}
# derived: likewise, of LoRA whose input is not cast to fp32 and back, 6 and 14 by their mean
WORK_UNCAST: Final = Work(input_bytes=10, output_bytes=10)


def work_of(adapter: Adapter, strategy: Strategy) -> Work:
    """What the strategy's adapter asks of a card for one linear."""
    return WORK_UNCAST if leaves_inputs(strategy) else WORK[adapter.kind]


def leaves_inputs(strategy: Strategy) -> bool:
    """Whether it was said that LoRA's inputs are not cast to the adapter's dtype."""
    return strategy.method_options.get(CAST_INPUT) is False
