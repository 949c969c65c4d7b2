"""Embedding and head in host memory beside the blocks: all that is learned, judged and answered is the resident model's."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from catalogs.bases.models import resolve_model
from planner.estimators.host import estimate_host
from planner.estimators.memory import estimate_vram
from remote.adapters import base_of
from remote.contract import CAPABILITIES, PASSING_TOO, Strategy, arena_bytes
from remote.losses import token_losses
from remote.measure.random_weights import random_batch
from remote.streaming import streamed_of
from remote.streaming.vocabulary import Vocabulary
from tests.remote.streaming.test_streaming import CONFIG, STRATEGY, built, changed, stepped

pytestmark = [pytest.mark.torch]

MATRIX_BYTES = 320 * 64 * 4
TIED = CONFIG | {"tie_word_embeddings": True}
SCALED = {
    "model_type": "gemma", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 320, "max_position_embeddings": 512, "pad_token_id": 319,
    "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": True,
}  # fmt: skip


def passing(**said: Any) -> Strategy:
    return changed(offload="stream", streaming=PASSING_TOO, **said)


@pytest.mark.parametrize("loss", ["hf", "chunked", "liger"])
@pytest.mark.parametrize("config", [CONFIG, TIED, SCALED], ids=["untied", "tied", "scaled, with a padding token"])
def test_the_adapter_is_the_resident_one_with_every_loss(loss: Any, config: dict[str, Any]) -> None:
    there = stepped(built(changed(loss=loss), config=config), changed(loss=loss), 3)
    here = stepped(built(passing(loss=loss), config=config), passing(loss=loss), 3)
    assert there.keys() == here.keys()
    assert all(here[name].equal(tensor) for name, tensor in there.items())


def test_one_visit_s_losses_share_one_head() -> None:
    """Of two micro-batches side by side the head comes once, the rows of each for both of its passes to the first block."""
    together = msgspec.structs.replace(PASSING_TOO, num_visits=2)
    fetched = []
    for streaming in (PASSING_TOO, together):
        strategy = changed(loss="liger", offload="stream", streaming=streaming)
        model = built(strategy)
        learned = stepped(model, strategy, 2)
        found = streamed_of(model)
        assert found is not None
        assert found.vocabulary is not None
        fetched.append(found.vocabulary.fetched_bytes)
    rows = 2 * 2 * 16 * 64 * 4 * 2
    assert fetched == [2 * 2 * MATRIX_BYTES + rows, 2 * MATRIX_BYTES + 2 * rows]
    staying = changed(loss="liger", offload="stream", streaming=msgspec.structs.replace(together, vocabulary_passes=False))
    there = stepped(built(staying), staying, 2)
    assert all(learned[name].equal(tensor) for name, tensor in there.items())


@pytest.mark.parametrize(("config", "matrices"), [(CONFIG, 2), (TIED, 1)], ids=["untied", "tied"])
def test_what_lies_where_is_what_the_planner_counts(config: dict[str, Any], matrices: int) -> None:
    """Less on the device by both matrices, by the one where they are tied; they lie in arenas; the head comes for the loss."""
    architecture, staying = resolve_model(config), changed(offload="stream")
    vram = [estimate_vram(architecture, each) for each in (staying, passing())]
    ram = [estimate_host(architecture, each, num_gpus=1, on_cpu=False) for each in (staying, passing())]
    assert vram[0].by_instant["backward"] - vram[1].by_instant["backward"] == matrices * MATRIX_BYTES
    assert vram[0].by_instant["loss"] - vram[1].by_instant["loss"] == (matrices - 1) * MATRIX_BYTES
    beside = matrices * arena_bytes(MATRIX_BYTES, 1)
    assert ram[1].ram_by_instant["step"] - ram[0].ram_by_instant["step"] == beside
    found = [streamed_of(built(each, config=config)) for each in (staying, passing())]
    arenas = [sum(each.held.arenas) for each in found if each is not None]
    assert arenas[1] - arenas[0] == beside


def test_a_state_dict_is_whole_and_passes_without_gradients_are_the_same() -> None:
    import torch

    there, here = built(STRATEGY).eval(), built(passing()).eval()
    whole, found = base_of(there).state_dict(), base_of(here).state_dict()
    assert all(found[name].equal(whole[name]) for name in ("model.embed_tokens.weight", "lm_head.weight"))
    tokens = torch.arange(12).reshape(1, 12)
    (micro, *_) = random_batch(STRATEGY, vocabulary=320, device="cpu")
    with torch.no_grad():
        assert here(input_ids=tokens, use_cache=False).logits.equal(there(input_ids=tokens, use_cache=False).logits)
        assert token_losses(here, micro, "liger", "none").equal(token_losses(there, micro, "liger", "none"))
        written = [model.generate(tokens, max_new_tokens=4, do_sample=False) for model in (there, here)]
    assert written[0].equal(written[1])


@pytest.mark.parametrize(
    ("said", "task", "word"),
    [
        ({"method": "lora_prompt", "num_virtual_tokens": 4}, "causal_lm", "vocabulary_passes under method=lora_prompt"),
        ({}, "classification", "vocabulary_passes for task=classification"),
    ],
)
def test_what_reads_the_embedding_itself_is_refused_by_name(said: dict[str, Any], task: str, word: str) -> None:
    assert word in CAPABILITIES.missing(passing(**said), task)


def test_a_head_that_is_no_plain_matrix_is_refused_in_one_sentence() -> None:
    import torch

    from remote.ends import Ended

    class Model(torch.nn.Module):  # type: ignore[misc]
        def get_input_embeddings(self) -> Any:
            return torch.nn.Embedding(4, 2)

        def get_output_embeddings(self) -> Any:
            return torch.nn.Bilinear(2, 2, 4)

    with pytest.raises(Ended, match="the output matrix is a Bilinear, which can't come and go: say vocabulary_passes false"):
        Vocabulary(Model(), "cpu", lambda size_bytes: torch.empty(size_bytes, dtype=torch.uint8))
