"""Several documents in one row: who stands with whom, and that none sees another."""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote.contract import keeps_apart, packed, packs
from remote.contract.packing import APART
from remote.data.batches import Shape, batched
from remote.data.packs import packs_of, padding_share
from remote.data.tokens import IGNORED, Example
from tests.catalogs.bases.test_architectures import BUILT, CONFIGS

SHAPE = Shape(micro_batch_size=2, gradient_accumulation_steps=2, seq_len=24, padded=True, pad_token_id=3, device="cpu")


def documents(*lengths: int, seed: int = 0) -> list[Example]:
    """Of random tokens, of which the first half teaches nothing."""
    drawn = np.random.default_rng(seed)
    made = []
    for length in lengths:
        ids = drawn.integers(5, 60, length).astype(np.int32)
        labels = np.where(np.arange(length) < length // 2, IGNORED, ids).astype(np.int32)
        made.append(Example(ids=ids, labels=labels, num_targets=int((labels[1:] != IGNORED).sum())))
    return made


def best_fit(lengths: Sequence[int], room: int) -> list[int]:
    """Tokens that each row has left, one document after the other."""
    left: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [space for space in left if space >= length]
        if fitting:
            left.remove(min(fitting))
        left.append(min(fitting, default=room) - length)
    return sorted(left)


@given(st.lists(st.integers(1, 40), max_size=80))
def test_each_document_stands_once_and_where_it_leaves_the_least_room(lengths: list[int]) -> None:
    rows = packed(lengths, 40)
    assert sorted(place for row in rows for place in row) == list(range(len(lengths)))
    assert sorted(40 - sum(lengths[place] for place in row) for row in rows) == best_fit(lengths, 40)
    assert sum(packs(Counter(lengths), 40).values()) == len(rows)


def test_short_rows_fill_long_ones_nearly_whole() -> None:
    drawn = random.Random(5)
    lengths = [min(1024, max(2, int(drawn.lognormvariate(5, 1)))) for _ in range(4_000)]
    assert sum(lengths) / len(packed(lengths, 1024)) / 1024 > 0.99


def test_a_pack_holds_its_documents_and_counts_what_they_teach() -> None:
    """The first token of each is predicted by nothing, as where it stands alone."""
    whole = documents(10, 6, 8, 20)
    found = packs_of(whole, 24)
    assert sorted(row.num_tokens for row in found) == [20, 24]
    assert sum(row.num_targets for row in found) == sum(row.num_targets for row in whole)
    for row in found:
        assert row.num_targets == int((row.labels[1:] != IGNORED).sum())
        assert row.positions is not None
        starts = np.flatnonzero(row.positions == 0)
        assert all(row.labels[starts] == IGNORED)


def test_what_padding_goes_is_counted_in_the_batches_that_are_made() -> None:
    whole = documents(*[4, 20] * 10)
    before, after = (padding_share(rows, SHAPE, 1) for rows in (whole, packs_of(whole, 24)))
    assert before > 0
    assert after == 0


def built(model_type: str, attention: str, **more: Any) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **(CONFIGS[model_type] | more))
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


EAGER_ALONE = ("bloom", "mpt", "gemma2", "gpt_oss")  # transformers 5.24 has no other attention for them


def logits_apart(model: Any) -> float:
    """By how much a document's logits behind another differ from those that it has alone."""
    import torch

    first, second = torch.randint(5, 100, (1, 7)), torch.randint(5, 100, (1, 6))
    positions = torch.cat([torch.arange(7), torch.arange(6)]).unsqueeze(0)
    with torch.no_grad():
        alone = model(input_ids=second, use_cache=False).logits
        behind = model(input_ids=torch.cat([first, second], dim=1), position_ids=positions, use_cache=False).logits[:, 7:]
    return float((alone - behind).abs().max())


@pytest.mark.torch
@pytest.mark.parametrize("model_type", [name for name in BUILT if name in APART or name in ("bloom", "mpt", "opt", "gpt_oss")])
def test_a_family_is_packed_if_a_document_does_not_see_the_one_before(model_type: str) -> None:
    """And only then: those that are left out would learn something else."""
    ways = ("eager",) if model_type in EAGER_ALONE else ("sdpa", "eager")
    for attention in ways:
        differs = logits_apart(built(model_type, attention))
        assert (differs < 1e-5) == (model_type in APART), (attention, differs)


def test_alibi_tells_no_document_from_another() -> None:
    assert keeps_apart({"model_type": "falcon"})
    assert not keeps_apart({"model_type": "falcon", "alibi": True})


def gradients_of(model: Any, examples: Sequence[Example], loss: str, shape: Shape = SHAPE) -> tuple[float, dict[str, Any]]:
    """Loss and gradients of all of them as one step."""
    import torch

    from remote.contract import Strategy
    from remote.step import settings_of, step

    strategy = Strategy(method="full", param_dtype="float32", autocast="none", loss=loss)  # type: ignore[arg-type]
    seen: dict[str, Any] = {}

    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)

    def look(*_: Any) -> None:
        seen.update((name, each.grad.clone()) for name, each in model.named_parameters() if each.grad is not None)

    optimizer.register_step_pre_hook(look)
    batch = batched(examples, shape)
    found = step(model, batch, optimizer, settings_of(strategy, "cpu", 1e9))
    return float(found.loss), seen


@pytest.mark.torch
@pytest.mark.parametrize("loss", ["hf", "chunked"])
@pytest.mark.parametrize("model_type", ["llama", "gpt2", "mistral"])
def test_packed_rows_teach_what_they_teach_alone(model_type: str, loss: str) -> None:
    """Loss and every gradient of an accumulated step, whatever the documents share a row or a micro-batch with."""
    import torch

    window = {"sliding_window": 5} if model_type == "mistral" else {}  # shorter than a document
    still = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0} if model_type == "gpt2" else {}
    model = built(model_type, "sdpa", **window, **still)
    whole = documents(10, 6, 8, 20, 13, 9)
    alone, expected = gradients_of(model, whole, loss)
    packed_loss, found = gradients_of(model, packs_of(whole, 24), loss)
    assert packed_loss == pytest.approx(alone, rel=1e-5)
    assert found.keys() == expected.keys()
    for name in expected:
        assert torch.allclose(found[name], expected[name], rtol=1e-3, atol=1e-6), name


def test_packing_holds_no_token_that_lies_in_a_file(tmp_path: Path) -> None:
    """They are read where a batch looks at the row; with a copy of each the file of tokens would spare packed rows nothing."""
    lengths = [90] * 2_000
    np.arange(sum(lengths), dtype=np.int32).tofile(tmp_path / "tokens")
    mapped = np.asarray(np.memmap(tmp_path / "tokens", dtype=np.int32, mode="r"))
    examples = [
        Example(ids=mapped[at : at + 90], labels=mapped[at : at + 90], num_targets=89) for at in range(0, len(mapped), 90)
    ]
    tracemalloc.start()
    made = packs_of(examples, 1_024)
    held_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held_bytes < 0.3 * mapped.nbytes, "ids, labels and positions would be three times what is mapped"
    row = made[0]
    assert [len(each) for each in (row.ids, row.labels, row.positions)] == [row.num_tokens] * 3
    assert row.num_targets == 89 * len(row.parts)
