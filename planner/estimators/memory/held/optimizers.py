"""What an optimizer keeps of each trained parameter, and what it takes for itself while it steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import msgspec

from catalogs.bases.architectures import Architecture
from planner.estimators.memory.held.weights import Trained, trained_in_block
from planner.methods import METHODS, adapted_linears
from planner.methods.linears import LORA_FA
from planner.refusals import CaseError, Unsupported
from planner.strategy.precision import DTYPE_BYTES
from remote.contract import Strategy

FP32: Final = DTYPE_BYTES["float32"]
BF16: Final = DTYPE_BYTES["bfloat16"]
GALORE_RANK: Final = 128  # derived: transformers' default of the `rank` in optim_args (trainer_optimizer.py)

StateBytes = Callable[[float], float]  # bytes of one parameter -> bytes of its state


class Matrix(NamedTuple):
    """A trained matrix of a block, and how often it occurs."""

    rows: int
    columns: int
    times: int

    @property
    def params(self) -> int:
        return self.rows * self.columns


class Optimizer(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of state per parameter; of an optimizer that treats matrices as such, per matrix, and the rest per parameter."""

    state: StateBytes
    of_matrix: Callable[[Matrix, int], int] | None = None  # (matrix, bytes of one parameter) -> bytes of its state
    matrix_scratch: Callable[[Matrix, int], int] | None = None  # the same -> temporaries while it is stepped
    foreach: bool = False  # holds one more copy of all parameters in the step
    paged: bool = False  # its states lie in host memory
    whole_weights: bool = False  # steps weights of the base alone
    low_rank: bool = False  # steps LoRA's factors alone


def _momentum(matrix: Matrix, item: int) -> int:
    return matrix.params * item


def _newton_schulz(matrix: Matrix, item: int) -> int:
    """The Nesterov update; in bf16 the iterate, its successor, and two products of the shorter side with itself."""
    side = min(matrix.rows, matrix.columns)
    return matrix.params * (item + 2 * BF16) + 2 * side * side * BF16


def _projected(matrix: Matrix, item: int) -> int:
    """The projector over the shorter side, and two moments of what is left of the longer one."""
    shorter, longer = sorted((matrix.rows, matrix.columns))
    return min(GALORE_RANK, shorter) * (shorter + 2 * longer) * item


def _decomposed(matrix: Matrix, _item: int) -> int:
    """The gradient in fp32 and its singular vectors on both sides."""
    side = min(matrix.rows, matrix.columns)
    return (matrix.params + side * (matrix.rows + matrix.columns)) * FP32


def _corrected(matrix: Matrix, item: int) -> int:
    """The corrected gradient, and the root of the second moment."""
    return matrix.params * 2 * item


# derived, where nothing else is said: the optimizers' own code
OPTIMIZERS: Final[dict[str, Optimizer]] = {
    # two moments in the parameter's dtype (Loshchilov & Hutter, arXiv:1711.05101)
    "adamw_torch": Optimizer(state=lambda item: 2 * item, foreach=True),
    "adamw_torch_fused": Optimizer(state=lambda item: 2 * item),
    # two bytes and two fp32 scales per 256 (arXiv:2110.02861)
    "adamw_8bit": Optimizer(state=lambda _: 2 + 2 * 4 / 256),
    "adamw_4bit": Optimizer(state=lambda _: 1 + 2 * 4 / 128),  # torchao's AdamW4bit, blocks of 128
    "paged_adamw_32bit": Optimizer(state=lambda _: 8, paged=True),
    "paged_adamw_8bit": Optimizer(state=lambda _: 2 + 2 * 4 / 256, paged=True),
    # assumed: rows and columns instead of a matrix (Shazeer & Stern, arXiv:1804.04235)
    "adafactor": Optimizer(state=lambda _: 0.01),
    "sgd": Optimizer(state=lambda _: 0),
    "sgd_momentum": Optimizer(state=lambda item: item, foreach=True),
    "lion_32bit": Optimizer(state=lambda _: 4),  # one fp32 moment in bitsandbytes (Chen et al., arXiv:2302.06675)
    "lion_8bit": Optimizer(state=lambda _: 1 + 4 / 256),
    # AdamW on B alone, whose gradient is corrected on the way (Zhang et al., arXiv:2308.03303, as peft's LoraFAOptimizer)
    "lora_fa": Optimizer(state=lambda item: 2 * item, matrix_scratch=_corrected, low_rank=True),
    # Jordan et al., 2024, as torch.optim.Muon: one moment of each matrix of a block, AdamW for all else
    "muon": Optimizer(state=lambda item: 2 * item, of_matrix=_momentum, matrix_scratch=_newton_schulz),
    # Zhao et al., arXiv:2403.03507, as galore_torch: AdamW on projected gradients of a block's matrices
    "galore_adamw": Optimizer(
        state=lambda item: 2 * item, of_matrix=_projected, matrix_scratch=_decomposed, whole_weights=True
    ),
}


def require_optimizer(architecture: Architecture, strategy: Strategy) -> None:
    """Refuse an optimizer without a row, and one that has nothing to work on."""
    name, method = strategy.optimizer, METHODS[strategy.method]
    if name not in OPTIMIZERS:
        raise Unsupported("optimizer", f"optimizer {name} has no closed form yet", f"it has one for {', '.join(OPTIMIZERS)}")
    row = OPTIMIZERS[name]
    if row.whole_weights and not method.moves_all:
        why = f"{name} projects gradients of whole weights, and {strategy.method} trains none"
        raise Unsupported("optimizer", why, "method full")
    if row.low_rank and (method.adapter is None or method.adapter.kind != "lora"):
        why = f"{name} trains the second factor of LoRA, and {strategy.method} has none"
        raise CaseError("optimizer", why, "method lora, or optimizer adamw_torch_fused")
    if row.of_matrix is not None and not any(matrices_of(architecture, strategy)):
        raise Unsupported(
            "optimizer", f"{name} steps matrices, and those of {strategy.method} have no closed form yet", "adamw_torch_fused"
        )


def is_paged(optimizer: str) -> bool:
    """Whether its states lie in host memory."""
    return OPTIMIZERS[optimizer].paged


def state_bytes(architecture: Architecture, strategy: Strategy, trained: Trained) -> int:
    """States of everything that is trained, wherever they lie, and what the method itself remembers of it.

    Frozen weights have none, which is why PEFT fits.
    """
    return _optimizer_bytes(architecture, strategy, trained) + _remembered_bytes(strategy, trained)


def _remembered_bytes(strategy: Strategy, trained: Trained) -> int:
    adapter = METHODS[strategy.method].adapter
    return 0 if adapter is None else adapter.remembers * trained.gradients


def _optimizer_bytes(architecture: Architecture, strategy: Strategy, trained: Trained) -> int:
    row = OPTIMIZERS[strategy.optimizer]
    if row.of_matrix is None:
        return round(trained.params * row.state(trained.item))
    matrices = tuple(matrices_of(architecture, strategy))
    rest = trained.params - trained.stage.of_blocks(sum(each.times * each.params for each in matrices))
    of_matrices = sum(each.times * row.of_matrix(each, trained.item) for each in matrices)
    return round(rest * row.state(trained.item)) + trained.stage.of_blocks(of_matrices)


def states_on_gpu_bytes(architecture: Architecture, strategy: Strategy, trained: Trained) -> int:
    """The states that lie on the GPU: paged ones count as host memory, and a method pages nothing."""
    paged = is_paged(strategy.optimizer)
    return _remembered_bytes(strategy, trained) + (0 if paged else _optimizer_bytes(architecture, strategy, trained))


def step_scratch_bytes(architecture: Architecture, strategy: Strategy, trained: Trained) -> int:
    """Temporaries of the step: a foreach optimizer's copy of what it steps at once, or what the most demanding matrix takes."""
    row = OPTIMIZERS[strategy.optimizer]
    if row.matrix_scratch is None:
        return stepped_bytes(architecture, strategy, trained) if row.foreach else 0
    return max(row.matrix_scratch(each, trained.item) for each in matrices_of(architecture, strategy))


def stepped_bytes(architecture: Architecture, strategy: Strategy, trained: Trained) -> int:
    """Gradients that stand together when parameters are stepped: all; in backward a block's, or a vocabulary matrix's."""
    if not strategy.optimizer_in_backward:
        return trained.gradients
    vocabulary = trained.stage.of_ends(architecture.vocab_size * architecture.hidden_size)
    return max(trained_in_block(architecture, strategy, trained), min(trained.outer_params, vocabulary)) * trained.item


def matrices_of(architecture: Architecture, strategy: Strategy) -> Iterator[Matrix]:
    """The trained matrices of the blocks: of a low-rank product both factors, in full fine-tuning the linears.

    Nothing for methods whose parameters have other shapes. Fused experts are stacks of matrices, and count with the rest.
    """
    method = METHODS[strategy.method]
    if method.moves_all:
        for part in architecture.parts:
            for linear in part.linears:
                yield Matrix(linear.out_features, linear.in_features, part.num_layers)
    elif method.adapter is not None and method.adapter.kind == "lora" and strategy.rank:
        for linear, times in adapted_linears(architecture, strategy):
            if strategy.optimizer != LORA_FA:
                yield Matrix(strategy.rank, linear.in_features, times)
            yield Matrix(linear.out_features, strategy.rank, times)
