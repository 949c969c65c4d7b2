"""`Stack`: whose training loop and model code runs, as far as it moves memory or time beyond the Strategy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple

import msgspec

from planner.strategy.cuts import cut_of
from remote.contract import Attention, Strategy

StackName = Literal[
    "transformers", "trl", "unsloth", "axolotl", "llamafactory", "ms-swift", "torchtune", "litgpt", "nemo", "megatron"
]
OWN_LOOPS: Final = frozenset({"torchtune", "litgpt", "nemo", "megatron"})  # derived: none of them imports accelerate
KeptOutputs = Literal["nothing", "logits", "logits_and_cache"]
MatmulDtype = Literal["as_compute", "fp8", "mxfp8", "nvfp4"]
EvaluationLogits = Literal["dropped", "kept_gpu", "kept_cpu"]


# derived: sequences in a batch of evaluation where nobody says: transformers' per_device_eval_batch_size. Axolotl takes
# training's, ms-swift 1; the loops of the others are told.
EVALUATION_BATCH: Final[dict[StackName, int]] = {"trl": 8, "unsloth": 8, "llamafactory": 8}


class EvaluationAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How evaluation runs; what is not said is as in training, but for the batch of a trainer of `EVALUATION_BATCH`."""

    micro_batch_size: int | None = None
    seq_len: int | None = None
    logits: EvaluationLogits = "dropped"
    generate_tokens: int = 0


def as_taken(asked: EvaluationAsked | None, name: StackName) -> EvaluationAsked | None:
    """What was asked of evaluation, with the batch that this trainer takes where nobody says one."""
    if asked is None or asked.micro_batch_size is not None or name not in EVALUATION_BATCH:
        return asked
    return msgspec.structs.replace(asked, micro_batch_size=EVALUATION_BATCH[name])


class Stack(msgspec.Struct, frozen=True, kw_only=True):
    """The loop around the step. The defaults are our own trainer on the pinned releases."""

    name: StackName = "transformers"
    versions: dict[str, str] = {}  # library -> release; what is missing is the pinned release
    keep_outputs: KeptOutputs = "nothing"
    matmul_dtype: MatmulDtype = "as_compute"
    quantized_experts: bool = False
    evaluation: EvaluationAsked | None = None
    tensor_parallel_size: int = 1
    context_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    expert_parallel_size: int = 1

    def __hash__(self) -> int:
        """Equal stacks have equal hashes; `versions`, which have none, are left to the comparison."""
        return hash((self.name, self.keep_outputs, self.model_parallel))

    @property
    def model_parallel(self) -> int:
        """GPUs that work on one micro-batch together."""
        return self.tensor_parallel_size * self.pipeline_parallel_size * self.context_parallel_size

    @property
    def weights_parallel(self) -> int:
        """Parts that a replica's weights lie in: those of one context are whole on each of its GPUs."""
        return self.tensor_parallel_size * self.pipeline_parallel_size

    def replicas(self, strategy: Strategy) -> int:
        """Data-parallel ranks: micro-batches that are computed side by side."""
        together = strategy.num_gpus if cut_of(strategy).spreads_blocks else self.model_parallel
        return max(1, strategy.num_gpus // together)

    def has(self, change: str) -> bool:
        """Whether its releases have a change of `CHANGES`. A release that is not named is newer than every one known."""
        row = CHANGES[change]
        release = self.release(row.library)
        return release is None or release >= row.since

    @property
    def fsdp_version(self) -> int:
        """1 or 2; torchtune and NeMo know no other than the second."""
        return 2 if self.has("second_fsdp") or self.name in ("torchtune", "nemo") else 1

    @property
    def uses_accelerate(self) -> bool:
        """Whether accelerate wraps the model: under whatever is built on transformers' Trainer."""
        return self.name not in OWN_LOOPS

    @property
    def uses_trainer(self) -> bool:
        """Whether transformers' Trainer runs the loop, or a subclass of it. Our own trainer has a loop of its own."""
        return self.uses_accelerate and self.name != "transformers"

    @property
    def groups_experts(self) -> bool:
        """Whether all experts are one product on the GPU, as transformers 5 multiplies them (`experts_implementation`).

        Of another trainer that names no release it is not assumed: most runs that were published are older.
        """
        named = self.release("transformers")
        return self.has("fused_experts") if named is not None else self.name == "transformers"

    def first_flash(self, attention: Attention) -> str | None:
        """The library whose release brings FlashAttention's first version, where the case names one; None where none does."""
        named = ((row.library, row.since, self.release(row.library)) for row in SECOND_FLASH.get(attention, ()))
        return next((library for library, since, release in named if release is not None and release < since), None)

    @property
    def reads_ahead(self) -> bool:
        """Whether weights are read before there is room for them, packed."""
        first, mended = READS_AHEAD
        return first <= (self.release("transformers") or mended) < mended

    def quantizes_experts(self, *, were_linears: bool) -> bool:
        """Whether a quantization of linears packs a mixture's experts too: where the case says so, or they are linears.

        `were_linears`: of this family, before transformers fused them.
        """
        return self.quantized_experts or (were_linears and not self.has("fused_experts"))

    def release(self, library: str) -> tuple[int, ...] | None:
        """(4, 45, 2) of "4.45.2"; None where the case names no release, which means the pinned one."""
        text = self.versions.get(library)
        return None if text is None else release_of(text)


def release_of(text: str) -> tuple[int, ...]:
    """(4, 45, 2) of "4.45.2"."""
    return tuple(int(part) for part in text.split(".") if part.isdecimal())


class Change(NamedTuple):
    """What a release of a library changed about memory, and what was before it."""

    library: str
    since: tuple[int, ...]
    before: str


# derived: the code of the releases on both sides of each; docs/memory.md shows the table
CHANGES: Final[dict[str, Change]] = {
    "kept_16_bit_logits": Change("transformers", (4, 46), "logits become fp32 at once, and the 16-bit ones are gone"),
    "grouped_flash": Change("transformers", (4, 48), "Mistral's FlashAttention-2 repeats keys and values for every query head"),
    "shifted_labels": Change(
        "transformers", (4, 50), "the loss copies the logits, shifted by one token, instead of the labels"
    ),
    "grouped_sdpa": Change("transformers", (4, 54), "sdpa repeats keys and values for every query head, without a mask too"),
    "bias_in_sdpa": Change("transformers", (5,), "attention with a learned bias (T5) is eager"),
    "exact_linears": Change("transformers", (5,), "bitsandbytes packs linears of a class of their own (Falcon), too"),
    "fused_experts": Change("transformers", (5,), "experts are linears of their own, which bitsandbytes packs with the others"),
    "second_fsdp": Change("transformers", (5,), "the trainer asks for FSDP1, which reduces gradients where they lie"),
}


class Release(NamedTuple):
    """Since when a library has something."""

    library: str
    since: tuple[int, ...]


# derived: flash-attn 2.0 is the second (arXiv:2307.08691); torch 2.2's release notes have it inside sdpa; triton-pre-mlir,
# which llm-foundry brings for nothing else, compiles the first one's Triton kernel
SECOND_FLASH: Final[Mapping[Attention, tuple[Release, ...]]] = {
    "flash_attention_2": (Release("triton-pre-mlir", (3,)), Release("flash-attn", (2,))),
    "sdpa": (Release("torch", (2, 2)),),
}

# derived: transformers issue 43032, until loading became synchronous; how many are ahead depends on disk and threads
READS_AHEAD: Final = ((5,), (5, 23))

PINNED_STACK: Final = Stack()
PINNED_VERSIONS: Final[dict[str, str]] = {  # of the box stack that estimates are made for; a test compares them with its lock
    "torch": "2.15.0",
    "transformers": "5.24.0",
    "peft": "0.21.2",
    "accelerate": "1.15.0",
    "bitsandbytes": "0.50.2",
}

# The oldest and the newest release whose memory is known: measured runs at one end, code that was read at the other.
PROFILED: Final[dict[str, tuple[str, str]]] = {
    "torch": ("2.4", "2.15"),  # measured: 2.4 (fms-acceleration) and 2.10 (fitcheck-llm); derived: 2.11 to 2.15, traced
    "transformers": ("4.44", "5.24"),  # measured: 4.44 to 4.48 (fms-acceleration); derived: 5.17 to 5.24, traced
    "peft": ("0.12", "0.21"),  # measured: 0.12 and 0.13 (fms-acceleration); derived: 0.21, traced
    "accelerate": ("0.33", "1.15"),  # assumed: moves no memory of one GPU between these
    "bitsandbytes": ("0.43", "0.50"),  # measured: 0.43 (fms-acceleration); derived: 0.50, traced
    "flash-attn": ("0.2", "2.8"),  # derived: either version keeps the output and a number for each row and head
    "triton-pre-mlir": ("2.0", "2.0"),  # derived: as flash-attn, whose first kernel it compiles
    "trl": ("0.10", "1.15"),  # measured: 0.10 to 0.13 (fms-acceleration); 1.16 makes no logits any more
}


def unprofiled(versions: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each library whose release nobody has looked at."""
    for library, text in versions.items():
        if library not in PROFILED:
            yield f"versions: {library} has no memory profile, and is passed over"
            continue
        oldest, newest = (release_of(end) for end in PROFILED[library])
        if not oldest <= release_of(text)[:2] <= newest:
            known = " to ".join(PROFILED[library])
            yield f"versions: {library} {text} has no memory profile; {known} have one, the nearest is taken"
