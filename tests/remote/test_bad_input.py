"""Jobs that can't be carried out: each a typed end before anything is trained, with one sentence on what and where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from remote.contract import DataSource, EndReason
from tests.remote.conftest import CONFIG, LOOP, STRATEGY, MakeJob, questions
from tests.remote.test_trainer import run

pytestmark = pytest.mark.torch

CLASSES = {"task": "classification", "strategy": msgspec.structs.replace(STRATEGY, padded=True)}
LABELLED = [{"text": f"row {number}", "label": "ab"[number % 2]} for number in range(20)]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"rows": [{"question_text": "a", "reply": "b"}] * 9}, "data.jsonl:1: no known keys (found: question_text, reply)"),
        ({"rows": [*questions(9), {"prompt": "a"}]}, "data.jsonl:10: none of the keys output, response, completion, answer"),
        ({"rows": []}, "data.jsonl holds no rows"),
        ({"data": DataSource(train="nowhere")}, "no data file at"),
        ({"rows": questions(9), **CLASSES}, "data.jsonl:1: no known keys of a text (found: completion, prompt); use "),
        ({"rows": LABELLED, "data": DataSource(train="data.jsonl", held_out="judged.jsonl"), **CLASSES},
         'judged.jsonl, line 1: the label "c" stands in no row to learn from; add some, or leave this row out'),
    ],
    ids=["wrong columns", "a missing column", "an empty file", "no file", "no labels", "a label never seen"],
)  # fmt: skip
def test_data_that_can_not_be_used_ends_the_job_with_one_sentence(
    make_job: MakeJob, fields: dict[str, Any], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And without a traceback."""
    job = make_job(**fields)
    job.with_name("judged.jsonl").write_text('{"text": "a", "label": "c"}\n')
    outcome = run(job)
    assert (outcome.reason, outcome.trained) == (EndReason.BAD_JOB, False)
    assert sentence in outcome.message
    assert "\n" not in outcome.message
    assert "Traceback" not in capsys.readouterr().err


def test_a_prompt_made_by_an_lstm_in_half_precision_on_a_processor_is_refused(make_job: MakeJob) -> None:
    said: dict[str, Any] = {"method": "p_tuning", "rank": None, "num_virtual_tokens": 4, "autocast": "float16"}
    lstm = msgspec.structs.replace(STRATEGY, method_options={"encoder_reparameterization_type": "LSTM"}, **said)
    outcome = run(make_job(strategy=lstm))
    assert outcome.reason is EndReason.BAD_JOB
    assert outcome.message == 'a prompt made by an LSTM can\'t train in float16 on a CPU; use autocast "bfloat16" or "none"'


def test_an_adapter_of_another_base_is_refused(make_job: MakeJob, tmp_path: Path) -> None:
    """It has other shapes than this base takes."""
    other = make_job("other", loop=msgspec.structs.replace(LOOP, max_steps=1, evaluations=0, num_samples=0))
    (other.parent / "config.json").write_text(json.dumps(CONFIG | {"hidden_size": 96, "num_attention_heads": 6}))
    assert run(other).trained
    job = make_job("job", loop=msgspec.structs.replace(LOOP, init_adapter=str(other.parent / "output")))
    outcome = run(job)
    assert (outcome.reason, outcome.trained) == (EndReason.BAD_JOB, False), outcome.message
    assert outcome.message.endswith("was made for another base: its weights have other shapes")
