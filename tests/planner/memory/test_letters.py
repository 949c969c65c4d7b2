"""A closed form is played once with letters for the sizes of a batch: filled in, it says what playing with the numbers says."""

from __future__ import annotations

from typing import get_args

import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from catalogs.bases.models import resolve_model
from planner.estimators.memory.batch import sizes_of
from planner.estimators.memory.closed import Filled, closed_form_of, filled
from planner.estimators.memory.scene import memory_class, scene_of
from planner.estimators.memory.step.letters import LETTERS, cut, highest, in_numbers, values_of
from planner.methods import METHODS, supported_methods
from planner.refusals import CaseRefused
from planner.strategy.stack import PINNED_STACK
from remote.contract import Attention, Checkpointing, KbitUpcast, Loss, Sharding, Strategy, Streaming

SIZES = msgspec.structs.replace(
    LETTERS, tokens=1000, seq_len=50, learned=7, sequences=20, chunk=3, scattered=1100, resident=9, visited=8
)
VALUES = values_of(SIZES)


def test_a_size_keeps_its_letters_apart() -> None:
    size = 3 * LETTERS.tokens - 5 * LETTERS.tokens * LETTERS.seq_len + LETTERS.seq_len * LETTERS.seq_len + 11
    assert in_numbers(size, VALUES) == 3 * 1000 - 5 * 1000 * 50 + 50 * 50 + 11
    assert in_numbers(LETTERS.sequences * LETTERS.seq_len * LETTERS.seq_len - 1, VALUES) == 20 * 50 * 50 - 1


def test_of_two_sizes_either_may_be_the_larger_unless_one_counts_less_throughout() -> None:
    wide, high = 4 * LETTERS.tokens, 2 * LETTERS.tokens + 500
    assert highest((wide, high, 2 * LETTERS.tokens + 499, wide)) == (wide, high)
    assert highest((wide - 1, wide + high)) == (wide + high,)
    assert highest((30, 10, 30, 20)) == (30,)


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9), st.integers(0, 40), st.integers(1, 40))
def test_what_a_cut_leaves_is_not_lost(per_token: int, fixed: int, share: int, of: int) -> None:
    """So parts add up again, whatever the batch."""
    size = per_token * LETTERS.tokens + fixed
    both = cut(size, share, of) + cut(size, of - share, of)
    assert in_numbers(both, values_of(SIZES, cut_into=of)) == in_numbers(size, VALUES)


BASES = (
    *("llama-3.1-8b", "qwen3-1.7b", "gemma-2-2b", "gemma-3-1b", "phi-2", "gpt2", "bloom-560m", "falcon-7b", "mpt-7b"),
    *("mixtral-8x7b", "deepseek-v3", "gpt-oss-20b", "roberta-base", "deberta-v3-base", "t5-base", "opt-125m", "olmo-2-7b"),
)
STREAMINGS = st.builds(
    Streaming,
    num_slots=st.integers(2, 4),
    num_resident_blocks=st.integers(0, 40),
    num_visits=st.sampled_from((1, 2, 4)),
    num_blocks_without_recompute=st.integers(0, 40),
)
QUANTS = ("none", "none", "nf4", "int8", "gptq_int4")


@st.composite
def jobs(draw: st.DrawFn) -> Strategy:
    """Some way to train with some batch."""
    method = draw(st.sampled_from((*supported_methods(), "lora", "full")))
    row = METHODS[method]
    sharding = draw(st.sampled_from(("none", *get_args(Sharding))))
    streaming = draw(STREAMINGS)
    streams = sharding in ("none", "ddp") and draw(st.booleans())
    return Strategy(
        method=method,
        rank=draw(st.sampled_from((4, 16))) if row.has_rank else None,
        dropout=draw(st.sampled_from((0.0, 0.1))),
        target_modules=draw(st.sampled_from(("all-linear", "default"))),
        num_virtual_tokens=draw(st.integers(1, 40)) if row.prompt else None,
        trainable_layers=draw(st.integers(1, 4)) if row.top_blocks_only else None,
        quant="none" if row.moves_linears else draw(st.sampled_from(QUANTS)),
        kbit_upcast=draw(st.sampled_from(get_args(KbitUpcast))),
        autocast=draw(st.sampled_from(("bfloat16", "none"))),
        optimizer_in_backward=draw(st.booleans()),
        micro_batch_size=draw(st.integers(1, 12)),
        gradient_accumulation_steps=draw(st.integers(1, 3)),
        seq_len=draw(st.integers(1, 6000)),
        padded=draw(st.booleans()),
        gradient_checkpointing=draw(st.sampled_from(get_args(Checkpointing))) if row.recomputes else "off",
        attention=draw(st.sampled_from(get_args(Attention))),
        loss=draw(st.sampled_from(get_args(Loss))),
        num_gpus=1 if sharding == "none" else draw(st.integers(2, 5)),
        sharding=sharding,
        offload="stream" if streams else "none",
        streaming=streaming if streams else None,
    )


@given(base=st.sampled_from(BASES), strategy=jobs())
@settings(max_examples=300, deadline=None)
def test_letters_filled_in_say_what_numbers_say(base: str, strategy: Strategy) -> None:
    """Every instant and every component, to the byte: with letters for all batches alike, and with this batch's numbers."""
    architecture = resolve_model(base, base=None)
    try:
        form = filled(architecture, strategy, task="causal_lm", gpu=None, stack=PINNED_STACK)
    except CaseRefused:
        assume(False)
    card = memory_class(None)
    numbers = sizes_of(architecture, strategy, PINNED_STACK, workspaces=card.workspaces)
    scene = scene_of(architecture, strategy, task="causal_lm", card=card, stack=PINNED_STACK, sizes=numbers)
    played = Filled(closed_form_of(scene), form.values)
    assert _told(form) == _told(played)
    assert form.peak_bytes() == played.peak_bytes() == max(num_bytes for num_bytes, _ in form.by_instant().values())


def _told(form: Filled) -> dict[str, tuple[int, dict[str, int]]]:
    return {name: (num_bytes, form.components(parts)) for name, (num_bytes, parts) in form.by_instant().items()}
