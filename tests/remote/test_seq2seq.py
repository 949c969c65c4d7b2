"""An encoder with a decoder beside it: one answer to one text."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from remote.bases.on_disk import prepare_base
from remote.contract import CAPABILITIES, EndReason, ModelSource
from remote.data.batches import Shape, collated
from remote.data.pairs import encode_pairs
from remote.data.rows import Conversation, Document, Message
from remote.data.tokens import IGNORED, UntokenizableRow
from tests.remote.conftest import DATA, LOOP, STRATEGY, Asked, MakeJob, changed
from tests.remote.test_trainer import run

pytestmark = pytest.mark.torch

T5: dict[str, Any] = {
    "model_type": "t5", "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4,
    "vocab_size": 320, "dropout_rate": 0.1,
}  # fmt: skip
PADDED = changed(STRATEGY, padded=True, seq_len=64, target_modules="default")
SHORT = changed(LOOP, max_steps=8, sample_tokens=8)
PAIRS = changed(DATA, target_tokens=24)


def pair(source: str, target: str) -> Conversation:
    return Conversation(messages=(Message(role="user", content=source), Message(role="assistant", content=target)))


def test_each_side_is_cut_at_a_length_of_its_own_and_ends_all_the_same(byte_tokenizer: Any) -> None:
    rows = [pair("abcdefgh", "xyz"), pair("ab", "vwxyz"), pair("a", "z")]
    end = byte_tokenizer.eos_token_id
    found = encode_pairs(rows, byte_tokenizer, 6, target_tokens=4, long_rows=None)
    assert [(len(each.ids), len(each.labels)) for each in found.examples] == [(6, 4), (3, 4), (2, 2)]
    assert all(each.ids[-1] == each.labels[-1] == end for each in found.examples)
    assert (found.truncated, found.dropped, found.longest_tokens) == (2, (), 9)
    assert encode_pairs(rows, byte_tokenizer, 6, target_tokens=4, long_rows="drop").dropped == (0, 1)
    with pytest.raises(UntokenizableRow, match="one answer to one text"):
        encode_pairs([Document(text="a")], byte_tokenizer, 6, target_tokens=None, long_rows=None)


def test_rows_that_are_cut_are_told_with_both_lengths(make_pairs: Any) -> None:
    job = make_pairs("job", data=changed(PAIRS, target_tokens=2), loop=changed(SHORT, max_steps=1, num_samples=0))
    assert run(job).trained
    events = [json.loads(line) for line in job.with_name("events.jsonl").read_bytes().splitlines()]
    told = [event["data"]["message"] for event in events if event["kind"] == "warning"]
    assert any("cut at 64 tokens of text or 2 of answer; the longest has " in message for message in told), told


def test_both_sides_are_padded_apart_and_what_is_padded_teaches_nothing(byte_tokenizer: Any) -> None:
    rows = [pair("abcd", "x"), pair("a", "wxyz")]
    shape = Shape(micro_batch_size=2, gradient_accumulation_steps=1, seq_len=9, padded=True, pad_token_id=7, device="cpu")
    micro = collated(encode_pairs(rows, byte_tokenizer, 9, target_tokens=None, long_rows=None).examples, shape)
    assert (tuple(micro.input_ids.shape), tuple(micro.labels.shape)) == ((2, 5), (2, 5))
    assert micro.attention_mask is not None
    assert micro.attention_mask.sum(dim=1).tolist() == [5, 2]
    assert (micro.labels != IGNORED).sum(dim=1).tolist() == [2, 5]
    assert (micro.num_targets, micro.num_tokens) == (7, 20)


@pytest.fixture
def make_pairs(make_job: MakeJob) -> Any:
    def make(name: str, **fields: Any) -> Path:
        job = make_job(name, task="seq2seq", **{"strategy": PADDED, "loop": SHORT, "data": PAIRS, **fields})
        (job.parent / "config.json").write_text(json.dumps(T5))
        return job

    return make


PROMPT: dict[str, Any] = {"rank": None, "num_virtual_tokens": 4}
SAID: dict[str, dict[str, Any]] = {
    "lora": {"rank": 4},
    "adalora": {"rank": 4, "method_options": {"init_r": 6}},
    "bottleneck": {"rank": 4},
    "freeze": {"rank": None, "trainable_layers": 1},
    **dict.fromkeys(("prompt_tuning", "p_tuning", "prefix_tuning"), PROMPT),
    "lora_prompt": PROMPT | {"rank": 4},
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of peft: ranks that fell to nothing
@pytest.mark.parametrize(
    "method",
    ["lora", "ia3", "full", "adalora", "freeze", "bottleneck", "prompt_tuning", "p_tuning", "prefix_tuning", "lora_prompt"],
)
def test_a_run_learns_to_answer_and_its_result_answers_by_itself(
    make_pairs: Any, model_cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    strategy = changed(PADDED, method=method, gradient_accumulation_steps=2, **SAID.get(method, {"rank": None}))
    job = make_pairs("job", strategy=strategy)
    outcome = run(job)
    assert (outcome.reason, outcome.trained) == (EndReason.COMPLETED, True), outcome.message
    assert outcome.before is not None
    assert outcome.after is not None
    assert outcome.after.mean_loss < outcome.before.mean_loss
    assert len(outcome.samples) == 2
    assert json.loads((job.parent / "output" / "rentune.json").read_text())["pairs"]
    base = prepare_base(
        ModelSource(kind="config", location=str(job.parent / "config.json")), cache=model_cache, dtype="float32", seed=42
    )
    monkeypatch.syspath_prepend(job.parent / "output")  # as for whoever runs the script there
    assert answered(job.parent / "output", "What is 1 plus 2?", *(() if method == "full" else ("--base", base))) == 0
    assert "Error" not in capsys.readouterr().err


def test_a_decoder_that_is_deeper_than_its_encoder_trains_and_is_shown_without_answers(make_pairs: Any) -> None:
    """The cache that transformers answers with is as deep as the encoder."""
    job = make_pairs("job")
    (job.parent / "config.json").write_text(json.dumps(T5 | {"num_layers": 1, "num_decoder_layers": 3}))
    outcome = run(job)
    assert (outcome.reason, outcome.trained, outcome.samples) == (EndReason.COMPLETED, True, ()), outcome.message
    events = [json.loads(line) for line in job.with_name("events.jsonl").read_bytes().splitlines()]
    (told,) = [
        event["data"]["message"] for event in events if event["kind"] == "warning" and "answers" in event["data"]["message"]
    ]
    assert told.startswith("the result is shown without sample answers: this model could not make them (")


@pytest.mark.parametrize("quant", ["nf4", "fp4", "int8"])
@pytest.mark.parametrize(("method", "dtype"), [("lora", "float32"), ("lora", "bfloat16"), ("ia3", "bfloat16")])
def test_a_base_in_4_or_8_bits_learns_to_answer(make_pairs: Any, quant: str, method: str, dtype: str) -> None:
    """T5 keeps one of its products in fp32 whatever the rest is held in."""
    packed = changed(
        PADDED,
        method=method,
        rank=4 if method == "lora" else None,
        quant=quant,
        double_quant=quant != "int8",
        kbit_upcast="full",
        param_dtype=dtype,
        gradient_checkpointing="reentrant",
    )
    outcome = run(make_pairs("job", strategy=packed))
    assert (outcome.reason, outcome.trained) == (EndReason.COMPLETED, True), outcome.message
    assert outcome.before is not None
    assert outcome.after is not None
    assert outcome.after.mean_loss < outcome.before.mean_loss


RANKED = ("lora", "rslora", "lora_plus", "dora", "adalora", "loha", "lokr", "vera", "lora_prompt", "bottleneck")
PROMPTS = ("prompt_tuning", "p_tuning", "prefix_tuning", "lora_prompt")


@pytest.mark.filterwarnings("ignore")  # of peft: ranks that fell to nothing, a kernel that is not built
@pytest.mark.parametrize("quant", ["nf4", "int8"])
@pytest.mark.parametrize("method", [each for each in CAPABILITIES.paired_packed if each not in ("lora", "ia3")])
def test_what_is_said_to_answer_over_a_base_in_4_or_8_bits_does(make_pairs: Any, method: str, quant: str) -> None:
    packed = changed(
        PADDED,
        method=method,
        rank=4 if method in RANKED else None,
        num_virtual_tokens=4 if method in PROMPTS else None,
        quant=quant,
        double_quant=quant != "int8",
        kbit_upcast="full",
        gradient_checkpointing="off" if method == "prefix_tuning" else "reentrant",
    )
    outcome = run(make_pairs("job", strategy=packed, loop=changed(SHORT, max_steps=2, num_samples=0, evaluations=0)))
    assert (outcome.reason, outcome.trained) == (EndReason.COMPLETED, True), outcome.message


def answered(result: Path, *arguments: str) -> int:
    """What the script beside a result returns."""
    spec = importlib.util.spec_from_file_location("try_pairs", result / "try.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return int(module.main([*arguments, "--max-tokens", "4"]))


def test_losses_are_of_the_answer_alone_and_accumulate_exactly(byte_tokenizer: Any) -> None:
    """Whatever the rows share a micro-batch with."""
    import torch
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    from remote.data.batches import batched
    from remote.losses import mean_loss
    from remote.result.evaluate import row_losses
    from remote.step import settings_of

    torch.manual_seed(0)
    said = {**T5, "decoder_start_token_id": 0, "pad_token_id": 0}
    config = AutoConfig.for_model(said.pop("model_type"), **said)
    model = AutoModelForSeq2SeqLM.from_config(config).eval()
    rows = [pair("abcd", "x"), pair("a", "wxyz"), pair("ab", "uvwxyz")]
    examples = encode_pairs(rows, byte_tokenizer, 9, target_tokens=None, long_rows=None).examples
    shape = Shape(micro_batch_size=3, gradient_accumulation_steps=1, seq_len=9, padded=True, pad_token_id=0, device="cpu")
    (micro,) = batched(examples, shape)
    settings = settings_of(PADDED, "cpu", 1.0)
    by_row = row_losses(model, micro, settings)
    alone = [row_losses(model, collated([each], shape), settings)[0] for each in examples]
    assert by_row == pytest.approx(alone, rel=1e-5)
    counts = [each.num_targets for each in examples]
    with torch.no_grad():
        whole = float(mean_loss(model, micro, "hf", "none"))
    assert whole == pytest.approx(float(np.dot(by_row, counts)) / sum(counts), rel=1e-5)


def test_a_parted_run_ends_with_the_same_weights(make_pairs: Any) -> None:
    from safetensors.torch import load_file

    whole, parted = make_pairs("whole"), make_pairs("parted")
    assert run(whole).trained
    assert run(parted, watch=Asked(24)).reason is EndReason.INTERRUPTED
    assert run(parted).trained
    one, other = (load_file(job.parent / "output" / "adapter_model.safetensors") for job in (whole, parted))
    assert all(bool((one[name] == other[name]).all()) for name in one)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"padded": False}, "needs padded true"),
        ({"method": "bitfit", "rank": None}, "method=bitfit for task=seq2seq"),
        ({"method": "full", "quant": "nf4"}, "method=full over quant=nf4 for task=seq2seq"),
        ({"loss": "chunked"}, "loss=chunked for task=seq2seq"),
    ],
)
def test_what_was_not_tried_is_refused_at_once(make_pairs: Any, changes: dict[str, Any], why: str) -> None:
    outcome = run(make_pairs("job", strategy=changed(PADDED, **changes)))
    assert outcome.reason is EndReason.BAD_JOB
    assert why in outcome.message


def test_a_base_without_an_encoder_is_an_end_in_one_sentence(make_job: MakeJob) -> None:
    outcome = run(make_job(task="seq2seq", strategy=PADDED, loop=SHORT))
    assert outcome.reason is EndReason.BAD_JOB
    assert "a llama has no encoder beside its decoder; say task causal_lm" in outcome.message
