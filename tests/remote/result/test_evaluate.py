"""Held-out loss and sample answers."""

from __future__ import annotations

from typing import Any

import pytest

from remote.contract import Evaluation
from remote.data.batches import Shape
from remote.data.rows import Conversation, Document, Message
from remote.data.tokens import IGNORED, encode_rows
from remote.ends import Ended
from remote.result.evaluate import evaluate
from remote.result.samples import answers, prompts_of
from remote.step import StepSettings
from remote.watch import Watch
from tests.remote.conftest import CONFIG

pytestmark = pytest.mark.torch

PLAIN = StepSettings(device_type="cpu", autocast="none", max_grad_norm=1.0)
ROWS = [
    Conversation(messages=(Message(role="user", content="hi " * n), Message(role="assistant", content="there" * (7 - n))))
    for n in (1, 5, 3, 2)
]


@pytest.fixture(scope="module")
def model() -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**CONFIG)).train()


def evaluated(model: Any, tokenizer: Any, micro_batch_size: int, between: Any = lambda *_: None) -> Evaluation:
    shape = Shape(
        micro_batch_size=micro_batch_size,
        gradient_accumulation_steps=1,
        seq_len=64,
        padded=False,
        pad_token_id=tokenizer.pad_token_id,
        device="cpu",
    )
    return evaluate(model, encode_rows(ROWS, tokenizer, 64).examples, shape, PLAIN, step=3, between=between)


@pytest.mark.parametrize("micro_batch_size", [1, 4])
def test_each_rows_loss_is_the_mean_over_its_own_answer(model: Any, byte_tokenizer: Any, micro_batch_size: int) -> None:
    import torch

    found = evaluated(model, byte_tokenizer, micro_batch_size)
    expected = []
    for example in encode_rows(ROWS, byte_tokenizer, 64).examples:
        ids, labels = (torch.from_numpy(array).long() for array in (example.ids, example.labels))
        with torch.no_grad():
            logits = model(input_ids=ids[None]).logits[0, :-1]
        expected.append(torch.nn.functional.cross_entropy(logits, labels[1:], ignore_index=IGNORED).item())
    assert found.row_losses == pytest.approx(expected, abs=1e-5)
    assert found.mean_loss == pytest.approx(sum(expected) / len(expected), abs=1e-5)


def test_the_same_weights_give_the_same_figures_to_the_last_bit(model: Any, byte_tokenizer: Any) -> None:
    assert evaluated(model, byte_tokenizer, 2) == evaluated(model, byte_tokenizer, 2)


def test_an_evaluation_can_be_broken_off_and_leaves_the_model_in_training(model: Any, byte_tokenizer: Any) -> None:
    watch = Watch()
    watch.ask()
    with pytest.raises(Ended):
        evaluated(model, byte_tokenizer, 1, lambda *_: watch.check())
    assert model.training


def test_answers_of_a_batch_are_those_of_each_prompt_alone(model: Any, byte_tokenizer: Any) -> None:
    """Left padding is masked: nobody's answer depends on a neighbour's length."""
    prompts = prompts_of(ROWS, byte_tokenizer, 3)
    together = answers(model, byte_tokenizer, prompts, PLAIN, max_tokens=6, max_prompt_tokens=64)
    alone = [answers(model, byte_tokenizer, [prompt], PLAIN, max_tokens=6, max_prompt_tokens=64) for prompt in prompts]
    assert together == tuple(answer for (answer,) in alone)
    assert model.training


def test_a_prompt_shows_the_question_and_keeps_the_answer_from_the_model(byte_tokenizer: Any) -> None:
    prompt, opening = prompts_of([ROWS[0], Document(text="once upon a time")], byte_tokenizer, 5)
    assert (prompt.shown, prompt.reference) == ("hi ", "there" * 6)
    assert "there" not in prompt.text
    assert (opening.text, opening.reference) == ("once upo", "n a time")
