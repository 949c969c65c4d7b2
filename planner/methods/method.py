"""`Method`: all that the estimators ask of a way to tune."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, get_args

import msgspec

from catalogs.bases.architectures import Architecture, Linear
from remote.contract import Strategy

DEFAULT_RANK: Final = 16  # assumed: defaults of TRL 1.10; beyond 8 the rank hardly changes small instruction sets (QLoRA)

Formula = Callable[[Architecture, Strategy], int]
Chosen = Callable[[Architecture, Strategy], tuple[Linear, ...]]
Part = Literal["weights", "norms", "biases"]
EVERYTHING: Final[frozenset[Part]] = frozenset(get_args(Part))
Ranked = Literal["size", "cut", "count"]
Kind = Literal["lora", "dora", "adalora", "loha", "lokr", "fourierft", "oft", "boft", "vera", "ia3"]


class Dials(msgspec.Struct, frozen=True):
    """What the size of an adapter follows from, beside the linear that it hangs on."""

    rank: int = 0  # 0 = the method sizes its adapters by options alone
    options: tuple[tuple[str, Any], ...] = ()  # the `method_options` that move memory, each with a value
    first_stays: bool = False  # the first tensor on a linear is not trained: LoRA's A under LoRA-FA

    def __getitem__(self, option: str) -> Any:
        """The value of an option that the method's row names."""
        return dict(self.options)[option]


class Launches(msgspec.Struct, frozen=True):
    """Kernels that something launches: forward, in backward, and in the first forward alone, which no checkpoint repeats."""

    forward: int
    backward: int
    once: int = 0

    def times(self, number: int) -> Launches:
        """As many of the same."""
        return Launches(number * self.forward, number * self.backward, number * self.once)


Both = tuple[float, float]  # forward, and in backward


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What an adapter asks of a card for one linear, beside that one's own products and those with its own trained tensors."""

    products: Both = (0, 0)  # multiply-adds for each of its weights and each token
    squares: Both = (0, 0)  # the same for each square of its inputs
    thin: Both = (0, 0)  # the same for each input or output and each rank: frozen factors
    cubes: Both = (0, 0)  # multiply-adds for each cube of its inputs, whatever the tokens
    ranked_weights: Both = (0, 0)  # the same for each of its weights and each rank
    ranked_squares: Both = (0, 0)  # the same for each square of its inputs and each rank
    weight_bytes: Both = (0, 0)  # moved for each of its weights, whatever the tokens
    square_bytes: Both = (0, 0)  # the same for each square of its inputs
    input_bytes: float = 0  # moved for each input and token, forward and backward together
    output_bytes: float = 0  # the same for each output


Places = tuple[tuple[Linear, int], ...]  # linears that carry an adapter, with how often each occurs


def _nothing(_linears: Places, _dials: Dials) -> int:
    return 0


def _defaults(_rank: int | None) -> dict[str, Any]:
    return {}


class Adapter(msgspec.Struct, frozen=True):
    """What a method hangs on linears of the base. Which linears "default" means: DEFAULT_TARGETS."""

    kind: Kind  # which operations it adds to a linear's own
    tensors: Callable[[Linear, Dials], tuple[int, ...]]  # entries of each trained tensor on one linear
    options: Mapping[str, Any] = {}  # `method_options` that `tensors` and the operations read, with peft's defaults
    options_at: Callable[[int | None], dict[str, Any]] = _defaults  # where a rank asks for others than peft's defaults
    frozen: Callable[[Places, Dials], int] = _nothing  # entries of fp32 tensors that it brings and does not train
    widens: frozenset[str] = frozenset()  # over such linears, under autocast, its sums stay in the adapter's dtype
    ends_wide: frozenset[str] = frozenset()  # over such linears, without autocast, what they give stays fp32
    follows_base: bool = False  # what it does not train takes the base's dtype, and what comes in that of what it trains
    conv1d: bool = True  # whether it can hang on GPT-2's transposed linears
    names_blocks: bool = True  # whether its configuration in peft can choose blocks among modules that are named
    remembers: int = 0  # numbers for each trained one that the method itself keeps from step to step
    regularized: bool = False  # the loss has a term over its tensors, whose gradients so come before all others
    ranked: Ranked = "size"  # what a rank is: its factors' width, where a long one is cut in two, how many parts it has
    leaves: bool = True  # products read the trained tensors as they are, so that autocast keeps a 16-bit copy of each

    def trained(self, linear: Linear, dials: Dials) -> tuple[int, ...]:
        """Entries of each tensor on one linear that gets a gradient."""
        return self.tensors(linear, dials)[dials.first_stays :]


class Prompt(msgspec.Struct, frozen=True):
    """What learned positions are, and what they are made by."""

    stands_in: Literal["sequence", "cache"]  # embeddings that lengthen the sequence; keys and values of every block
    encoder: Formula | None = None  # parameters of the linears that make them, as far as there are any


class Method(msgspec.Struct, frozen=True):
    """A way to tune, with all that the estimators ask of one. `trainable` None: known, but without a closed form yet."""

    paper: str
    trainable: Formula | None
    has_rank: bool = False
    default_rank: int | None = DEFAULT_RANK  # of a method that has one, where nothing was said
    moves: frozenset[Part] = frozenset()  # parts of the base itself that are trained; empty = all that moves is added to it
    top_blocks_only: bool = False  # what moves does so in the last `trainable_layers` blocks, and nowhere else
    adapter: Adapter | None = None
    prompt: Prompt | None = None  # `num_virtual_tokens` learned positions in front of each sequence
    chosen: Chosen | None = None  # the linears of a block that alone move, where the strategy chooses some; None = all
    inserted_behind: Chosen | None = None  # linears of a block that a small network of its own stands behind
    copies: bool = False  # what moves is a copy, beside what it was
    starts_anew: bool = False  # can't go on with an adapter of an earlier run

    @property
    def goes_on(self) -> bool:
        """Whether it can go on with what an earlier run learned: it makes an adapter that peft reads, and not of the base's own
        weights.
        """
        return not (self.moves or self.inserted_behind is not None or self.starts_anew)

    @property
    def moves_linears(self) -> bool:
        """Whether parameters of the base's linears are trained, so that these can't be quantized."""
        return bool(self.moves & {"weights", "biases"})

    @property
    def recomputes(self) -> bool:
        """Whether blocks can be computed again in backward: peft refuses that to a prefix, which lies in the cache."""
        return self.prompt is None or self.prompt.stands_in != "cache"

    @property
    def moves_in_every_block(self) -> frozenset[Part]:
        """What is trained in each block alike."""
        return frozenset() if self.top_blocks_only else self.moves

    @property
    def moves_all(self) -> bool:
        """Whether every parameter is trained: all blocks, the vocabulary, the task's head."""
        return self.moves_in_every_block == EVERYTHING
