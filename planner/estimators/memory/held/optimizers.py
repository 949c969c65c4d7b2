"""What an optimizer keeps of each trained parameter, and what it takes for itself while it steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import msgspec

from catalogs.bases.architectures import Architecture
from planner.estimators.memory.held.weights import Trained, trained_in_block
from planner.methods import METHODS, adapted_linears, adapter_tensors, embedding_params, saved_modules
from planner.methods.linears import LORA_FA
from planner.refusals import CaseError, Unsupported
from planner.strategy.precision import DTYPE_BYTES
from planner.strategy.stack import PINNED_STACK, Stack
from remote.contract import Strategy

FP32: Final = DTYPE_BYTES["float32"]
BF16: Final = DTYPE_BYTES["bfloat16"]
GALORE_RANK: Final = 128  # derived: transformers' default of the `rank` in optim_args (trainer_optimizer.py)

StateBytes = Callable[[float], float]  # bytes of one parameter -> bytes of its state


class Matrix(NamedTuple):
    """A trained matrix, or a stack of them that is one tensor, and how often it occurs."""

    rows: int
    columns: int
    times: int
    stacked: int = 1

    @property
    def params(self) -> int:
        return self.stacked * self.rows * self.columns


class Optimizer(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of state per parameter; of an optimizer that treats matrices as such, per matrix, and the rest per parameter."""

    state: StateBytes
    of_matrix: Callable[[Matrix, int], int] | None = None  # (matrix, bytes of one parameter) -> bytes of its state
    matrix_scratch: Callable[[Matrix, int], int] | None = None  # the same -> temporaries while it is stepped
    vocabulary_scratch: Callable[[Matrix, int], int] | None = None  # the same of a saved embedding and head, together
    bitsandbytes: bool = False  # is that library's: a card without its kernels can't run it
    foreach: bool = False  # holds one more copy of all parameters in the step
    paged: bool = False  # its states lie in host memory
    whole_weights: bool = False  # steps weights of the base alone
    low_rank: bool = False  # steps LoRA's factors alone
    steps_all: bool = False  # treats every matrix as such, those outside the blocks too, and vectors by themselves
    embeddings: StateBytes | None = None  # of an embedding under transformers' Trainer, where that asks for another state


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


def _roots(matrix: Matrix, item: int) -> int:
    """The root of the second moment, a local of the loop that lives until the next one is made: of two matrices both."""
    return matrix.times * matrix.params * item


def _rows_and_columns(matrix: Matrix, _item: int) -> int:
    """A mean over each row and over each column."""
    return matrix.stacked * (matrix.rows + matrix.columns) * FP32


def _rescaled(matrix: Matrix, item: int) -> int:
    """The squared gradient and its sum with eps; of 16 bits the gradient and the parameter in fp32 as well."""
    return matrix.params * (2 * FP32 + (2 * FP32 if item < FP32 else 0))


def _fp32_moments(number: int) -> StateBytes:
    """derived: `Trainer.create_optimizer` has bitsandbytes keep 32 bits for each nn.Embedding."""
    return lambda _: number * FP32


# derived, where nothing else is said: the optimizers' own code
OPTIMIZERS: Final[dict[str, Optimizer]] = {
    # two moments in the parameter's dtype (Loshchilov & Hutter, arXiv:1711.05101)
    "adamw_torch": Optimizer(state=lambda item: 2 * item, foreach=True),
    "adamw_torch_fused": Optimizer(state=lambda item: 2 * item),
    # two bytes and two fp32 scales per 256 (arXiv:2110.02861)
    "adamw_8bit": Optimizer(state=lambda _: 2 + 2 * 4 / 256, embeddings=_fp32_moments(2), bitsandbytes=True),
    "adamw_4bit": Optimizer(state=lambda _: 1 + 2 * 4 / 128),  # torchao's AdamW4bit, blocks of 128
    "paged_adamw_32bit": Optimizer(state=lambda _: 8, paged=True, bitsandbytes=True),
    "paged_adamw_8bit": Optimizer(state=lambda _: 2 + 2 * 4 / 256, paged=True, embeddings=_fp32_moments(2), bitsandbytes=True),
    # Shazeer & Stern, arXiv:1804.04235, as transformers' Adafactor: rows and columns of a matrix, a moment of each vector
    "adafactor": Optimizer(state=lambda _: FP32, of_matrix=_rows_and_columns, matrix_scratch=_rescaled, steps_all=True),
    "sgd": Optimizer(state=lambda _: 0),
    "sgd_momentum": Optimizer(state=lambda item: item, foreach=True),
    # one fp32 moment in bitsandbytes (Chen et al., arXiv:2302.06675)
    "lion_32bit": Optimizer(state=lambda _: 4, bitsandbytes=True),
    "lion_8bit": Optimizer(state=lambda _: 1 + 4 / 256, embeddings=_fp32_moments(1), bitsandbytes=True),
    # AdamW on B alone, whose gradient is corrected on the way (Zhang et al., arXiv:2308.03303, as peft's LoraFAOptimizer)
    "lora_fa": Optimizer(state=lambda item: 2 * item, matrix_scratch=_corrected, vocabulary_scratch=_roots, low_rank=True),
    # Jordan et al., 2024, as torch.optim.Muon: one moment of each matrix of a block, AdamW for all else
    "muon": Optimizer(state=lambda item: 2 * item, of_matrix=_momentum, matrix_scratch=_newton_schulz),
    # Zhao et al., arXiv:2403.03507, as galore_torch: AdamW on projected gradients of a block's matrices
    "galore_adamw": Optimizer(
        state=lambda item: 2 * item, of_matrix=_projected, matrix_scratch=_decomposed, whole_weights=True
    ),
}
BITSANDBYTES_OPTIMIZERS: Final = frozenset(name for name, row in OPTIMIZERS.items() if row.bitsandbytes)


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
    if row.of_matrix is not None and not row.steps_all and not any(matrices_of(architecture, strategy)):
        raise Unsupported(
            "optimizer", f"{name} steps matrices, and those of {strategy.method} have no closed form yet", "adamw_torch_fused"
        )


def is_paged(optimizer: str) -> bool:
    """Whether its states lie in host memory."""
    return OPTIMIZERS[optimizer].paged


def state_bytes(architecture: Architecture, strategy: Strategy, trained: Trained, stack: Stack = PINNED_STACK) -> int:
    """States of everything that is trained, wherever they lie, and what the method itself remembers of it.

    Frozen weights have none, which is why PEFT fits.
    """
    return _optimizer_bytes(architecture, strategy, trained, stack) + _remembered_bytes(strategy, trained)


def _remembered_bytes(strategy: Strategy, trained: Trained) -> int:
    adapter = METHODS[strategy.method].adapter
    return 0 if adapter is None else adapter.remembers * trained.gradients


def _optimizer_bytes(architecture: Architecture, strategy: Strategy, trained: Trained, stack: Stack) -> int:
    row = OPTIMIZERS[strategy.optimizer]
    more_of_head = row.state(trained.head_item) - row.state(trained.item) if trained.head_params else 0
    return round(trained.head_params * more_of_head) + _uniform_bytes(row, architecture, strategy, trained, stack)


def _uniform_bytes(row: Optimizer, architecture: Architecture, strategy: Strategy, trained: Trained, stack: Stack) -> int:
    """As if all that trains had one dtype."""
    if row.embeddings is not None and stack.uses_trainer:
        embedding = trained.stage.of_ends(embedding_params(architecture, strategy))
        return round((trained.params - embedding) * row.state(trained.item) + embedding * row.embeddings(trained.item))
    if row.of_matrix is None:
        return round(trained.params * row.state(trained.item))
    inside = tuple(matrices_of(architecture, strategy)) + (tuple(_experts(architecture, strategy)) if row.steps_all else ())
    outside = tuple(_vocabulary(architecture, strategy)) if row.steps_all else ()
    params = trained.stage.of_blocks(sum(each.times * each.params for each in inside))
    params += trained.stage.of_ends(sum(each.times * each.params for each in outside))
    of_blocks, of_ends = (sum(each.times * row.of_matrix(each, trained.item) for each in some) for some in (inside, outside))
    rest = round(max(0, trained.params - params) * row.state(trained.item))
    return rest + trained.stage.of_blocks(of_blocks) + trained.stage.of_ends(of_ends)


def states_on_gpu_bytes(architecture: Architecture, strategy: Strategy, trained: Trained, stack: Stack = PINNED_STACK) -> int:
    """The states that lie on the GPU: paged ones count as host memory, and a method pages nothing."""
    paged = is_paged(strategy.optimizer)
    return _remembered_bytes(strategy, trained) + (0 if paged else _optimizer_bytes(architecture, strategy, trained, stack))


def step_scratch_bytes(architecture: Architecture, strategy: Strategy, trained: Trained) -> int:
    """Temporaries of the step: a foreach optimizer's copy of what it steps at once, or what the most demanding matrix takes."""
    row = OPTIMIZERS[strategy.optimizer]
    if row.matrix_scratch is None:
        return stepped_bytes(architecture, strategy, trained) if row.foreach else 0
    matrices = [*matrices_of(architecture, strategy)]
    if row.steps_all:
        others = (Matrix(1, entries, times) for entries, times in adapter_tensors(architecture, strategy))
        matrices += [*_experts(architecture, strategy), *_vocabulary(architecture, strategy), *others]
    alone = max((row.matrix_scratch(each, trained.item) for each in matrices), default=0)
    if row.vocabulary_scratch is None:
        return alone
    return alone + sum(row.vocabulary_scratch(each, trained.item) for each in _vocabulary(architecture, strategy))


def stepped_bytes(architecture: Architecture, strategy: Strategy, trained: Trained) -> int:
    """Gradients that stand together when parameters are stepped: all; in backward a block's, or a vocabulary matrix's."""
    if not strategy.optimizer_in_backward:
        return trained.gradients
    vocabulary = trained.stage.of_ends(architecture.vocabulary_size)
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


def _experts(architecture: Architecture, strategy: Strategy) -> Iterator[Matrix]:
    """The fused experts of a block, where the whole base trains: two tensors, or lists of linears before."""
    if not METHODS[strategy.method].moves_all:
        return
    for part in architecture.parts:
        hidden, width, experts = part.hidden_size, part.intermediate_size, part.num_experts
        if part.expert_linears:
            for linear in part.expert_linears:
                yield Matrix(linear.out_features, linear.in_features, part.num_layers * experts)
        elif experts:
            yield Matrix((2 if part.gated_mlp else 1) * width, hidden, part.num_layers, stacked=experts)
            yield Matrix(hidden, width, part.num_layers, stacked=experts)


def _vocabulary(architecture: Architecture, strategy: Strategy) -> Iterator[Matrix]:
    """Embedding and output head, as far as they train."""
    width = architecture.embedding_size or architecture.hidden_size
    if METHODS[strategy.method].moves_all:
        yield Matrix(architecture.vocab_size, width, 1 if architecture.tied_embeddings else 2)
    elif times := len(saved_modules(architecture, strategy)):
        yield Matrix(architecture.vocab_size, width, times)
