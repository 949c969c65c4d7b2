"""What the model sees of a row, and what of it is learned."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote.data.rows import Conversation, Document, Message, Role, Written
from remote.data.tokens import IGNORED, UntokenizableRow, encode_rows, ready, tokenized

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Like Qwen3: the reasoning block stands only in the last answer.
REASONING = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m['content'] + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WITHOUT_EOS = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
GRUMPY = "{{ raise_exception('System role not supported') }}"


def with_template(tokenizer: Any, template: str | None) -> Any:
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = template
    ready(tokenizer)
    return tokenizer


def talk(*turns: str) -> Conversation:
    roles: tuple[Role, Role] = ("user", "assistant")
    return Conversation(messages=tuple(Message(role=roles[i % 2], content=turn) for i, turn in enumerate(turns)))


def learned(row: Conversation | Document, tokenizer: Any) -> str:
    ((ids, labels),) = tokenized([row], tokenizer)
    assert all(label in (IGNORED, token) for token, label in zip(ids, labels, strict=True))
    return str(tokenizer.decode(ids[labels != IGNORED]))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (None, "4<|eos|>6<|eos|>"),
        (CHATML, "4<|eos|>6<|eos|>"),
        (REASONING, "4<|eos|><think>\n\n</think>\n\n6<|eos|>"),
        (WITHOUT_EOS, "4\n6\n<|eos|>"),
    ],
)
def test_answers_and_their_end_are_learned_and_nothing_else(byte_tokenizer: Any, template: str | None, expected: str) -> None:
    tokenizer = with_template(byte_tokenizer, template)
    assert learned(talk("2+2?", "4", "and 3+3?", "6"), tokenizer) == expected


def test_a_document_is_learned_whole_and_ends(byte_tokenizer: Any) -> None:
    assert learned(Document(text="once upon"), byte_tokenizer) == "once upon<|eos|>"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20), min_size=2, max_size=6))
def test_no_letter_of_a_question_is_ever_learned(byte_tokenizer: Any, turns: list[str]) -> None:
    turns = [turn.replace("<|", "< |") for turn in turns[: len(turns) // 2 * 2]]
    answers = "".join(f"{answer}<|eos|>" for answer in turns[1::2])
    assert learned(talk(*turns), byte_tokenizer) == answers


def test_a_template_that_refuses_a_row_is_quoted_and_the_row_is_named(byte_tokenizer: Any) -> None:
    with pytest.raises(UntokenizableRow, match=r"System role not supported") as refused:
        list(tokenized([Document(text="fine"), talk("a", "b")], with_template(byte_tokenizer, GRUMPY)))
    assert refused.value.place == 1


def test_a_long_conversation_is_cut_and_one_without_a_visible_answer_is_left_out(byte_tokenizer: Any) -> None:
    rows = [talk("hi", "x" * 50), talk("q" * 50, "y"), talk("hi", "ok")]
    encoded = encode_rows(rows, byte_tokenizer, 20)
    assert [example.num_tokens for example in encoded.examples] == [20, len("hi\nok") + 1]
    assert (encoded.truncated, encoded.dropped, encoded.longest_tokens) == (1, (1,), 54)


def test_a_long_document_is_split_so_that_nothing_of_it_is_lost(byte_tokenizer: Any) -> None:
    encoded = encode_rows([Document(text="abcdefghij" * 5)], byte_tokenizer, 20)
    assert [example.num_tokens for example in encoded.examples] == [20, 20, 11]
    assert (encoded.truncated, encoded.split, encoded.dropped) == (0, 1, ())


TALK = talk("a" * 20, "b" * 30, "c", "d" * 10, "e", "f" * 10, "g" * 50, "h" * 50)


def texts(rows: list[Written], tokenizer: Any, seq_len: int, **asked: Any) -> list[str]:
    return [tokenizer.decode(example.ids) for example in encode_rows(rows, tokenizer, seq_len, **asked).examples]


def test_a_long_conversation_is_split_between_its_turns_and_every_piece_has_its_system_prompt(byte_tokenizer: Any) -> None:
    """As many exchanges as fit go together; what is too long alone is cut, and the row counted as cut as well."""
    row = Conversation(messages=(Message(role="system", content="S"), *TALK.messages))
    first = "S\n" + "a" * 20 + "\n" + "b" * 30 + "<|eos|>"
    second = "S\nc\n" + "d" * 10 + "<|eos|>e\n" + "f" * 10 + "<|eos|>"
    third = "S\n" + "g" * 50 + "\n" + "h" * 7
    assert texts([row], byte_tokenizer, 60, long_rows="split") == [first, second, third]
    encoded = encode_rows([row], byte_tokenizer, 60, long_rows="split")
    assert (encoded.split, encoded.truncated, encoded.dropped, encoded.too_long) == (1, 1, (), 0)


def test_a_single_exchange_has_no_place_to_be_split_at(byte_tokenizer: Any) -> None:
    encoded = encode_rows([talk("hi", "x" * 50)], byte_tokenizer, 20, long_rows="split")
    assert (len(encoded.examples), encoded.split, encoded.truncated) == (1, 0, 1)


def test_a_split_loses_no_answer_that_fits(byte_tokenizer: Any) -> None:
    """Every answer is learned to its end, once."""
    encoded = encode_rows([TALK], byte_tokenizer, 110, long_rows="split")
    assert encoded.truncated == 0
    shown = "".join(byte_tokenizer.decode(e.ids[e.labels != IGNORED]) for e in encoded.examples)
    assert shown == "".join(f"{m.content}<|eos|>" for m in TALK.messages if m.role == "assistant")


@pytest.mark.parametrize("row", [talk("hi", "x" * 50), Document(text="x" * 50)])
def test_long_rows_are_dropped_where_that_is_asked(byte_tokenizer: Any, row: Written) -> None:
    encoded = encode_rows([talk("hi", "ok"), row], byte_tokenizer, 20, long_rows="drop")
    assert (len(encoded.examples), encoded.truncated, encoded.dropped, encoded.too_long) == (1, 0, (1,), 1)


def test_a_long_document_is_cut_where_that_is_asked(byte_tokenizer: Any) -> None:
    assert texts([Document(text="abcdefghij" * 5)], byte_tokenizer, 20, long_rows="cut") == ["abcdefghij" * 2]


def test_the_number_of_targets_is_what_the_shifted_loss_sees(byte_tokenizer: Any) -> None:
    (example,) = encode_rows([Document(text="abc")], byte_tokenizer, 20).examples
    assert example.num_targets == 3  # a→b, b→c, c→end: nothing predicts the first token
