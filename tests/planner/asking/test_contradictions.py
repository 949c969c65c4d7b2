"""Wishes that exclude each other are refused together, and each of them alone is not."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from planner.asking.contradictions import CONTRADICTIONS, consistent
from planner.asking.jobfile import read_job
from planner.asking.jobfile.positions import JobFileError
from planner.asking.request import DataAsked, Purpose, Request, RequestError, Where
from remote.contract import Loop, Reading
from tests.planner.builders import make_request

HOST = Where(host="me@box")


def of_data(**said: Any) -> DataAsked:
    return msgspec.structs.replace(make_request().data, **said)


def read_as(**said: Any) -> DataAsked:
    return of_data(reading=Reading(**said))


EXCLUDING = [
    (make_request(where=Where(host="me@box", providers=("host", "aws"))), "me@box is a machine of yours"),
    (make_request(where=Where(host="me@box", spot=True)), "sold as spot"),
    (make_request(where=Where(providers=("local",), spot=True)), "sold as spot"),
    (make_request(where=Where(providers=("local", "host"), allow_from=("192.0.2.0/24",))), "this job rents none"),
    (make_request(training={"method": "full"}, loop=Loop(init_adapter="a")), "and method full can't"),
    (make_request(training={"method": "prompt_tuning"}, loop=Loop(layers=(0,))), "method prompt_tuning chooses none"),
    (make_request(loop=Loop(early_stopping_evaluations=2, evaluations=0)), "there are none"),
    (make_request(loop=Loop(best_by="macro_f1")), "best_by macro_f1 is a figure of classes"),
    (make_request(loop=Loop(warmup_steps=10, warmup_epochs=0.5)), "said in steps and in epochs"),
    (make_request(loop=Loop(warmup_steps=10, max_steps=10)), "leaves none of max_steps 10 at the whole rate"),
    (make_request(loop=Loop(warmup_epochs=3, epochs=2)), "leaves none of 2 at the whole rate"),
    (make_request(data=read_as(format="classification")), "format classification has labels"),
    (make_request(task="classification", data=read_as(format="chat")), "rows of format chat have none"),
    (make_request(purpose=Purpose(use_case="classification"), data=of_data(unread_labels=9)), "9 rows have a label"),
    (make_request(data=read_as(balance="class_weights")), "balance weighs classes"),
    (make_request(data=read_as(balance="smote"), task="classification"), "so it trains a head alone"),
    (make_request(training={"method": "freeze", "trainable_layers": 0}), "and task causal_lm has none"),
    (make_request(data=read_as(columns={"label": "team"})), "task causal_lm learns none"),
    (make_request(task="classification", data=read_as(long_rows="split")), "rows without a label of their own"),
    (make_request(task="classification", data=read_as(chat_template="plain")), "reads texts as they are"),
    (make_request(task="seq2seq", data=read_as(format="chat")), "rows of format chat are none"),
    (make_request(task="seq2seq", data=read_as(long_rows="split")), "part a text from its answer"),
    (make_request(data=read_as(target_tokens=9)), "task causal_lm has one side"),
    (make_request(task="classification", data=read_as(packing=True)), "has one answer to each"),
    (make_request(training={"method": "p_tuning"}, data=read_as(packing=True)), "puts tokens of its own before a row"),
    (make_request(training={"padded": False}, data=read_as(packing=True)), "padded false has none"),
    (make_request(task="classification", training={"padded": False}), "padded false has nothing padded"),
    (make_request(loop=Loop(report_to=("tensorboard", "wandb_offline"))), "needs the library of that name"),
    (make_request(where=Where(host="me@box"), loop=Loop(report_to=("wandb",))), "none of the box's packages"),
    (make_request(loop=Loop(checkpoint_every="now and then")), "which is no number of steps"),
]
GOING_TOGETHER = [
    make_request(task="classification", data=read_as(columns={"text": "body", "label": "team"})),
    make_request(where=Where(host="me@box", providers=("host",), spot=False)),
    make_request(where=Where(providers=("local", "aws"), spot=True, allow_from=("192.0.2.0/24",))),
    make_request(loop=Loop(init_adapter="a", layers=(0,))),
    make_request(training={"method": "qlora"}, loop=Loop(init_adapter="a", early_stopping_evaluations=2)),
    make_request(training={"method": "full", "quant": "none"}),
    make_request(training={"method": "ln_tuning", "quant": "nf4"}),
    make_request(training={"method": "auto"}, loop=Loop(layers=(0,))),
    make_request(training={"method": "dora", "padded": True}, data=read_as(packing=True)),
    make_request(training={"method": "full"}, loop=Loop(evaluations=0)),
    make_request(loop=Loop(warmup_steps=10)),
    make_request(loop=Loop(report_to=("tensorboard",))),
    make_request(where=Where(providers=("local",)), loop=Loop(report_to=("wandb", "tensorboard"))),
    make_request(loop=Loop(warmup_epochs=0.5, epochs=2, max_steps=11)),
]


@pytest.mark.parametrize(("request_", "sentence"), EXCLUDING, ids=lambda value: value if isinstance(value, str) else "")
def test_what_excludes_each_other_is_refused_with_a_hint(request_: Request, sentence: str) -> None:
    with pytest.raises(RequestError, match=re.escape(sentence)) as refused:
        consistent(request_)
    assert refused.value.hint


@pytest.mark.parametrize("request_", GOING_TOGETHER, ids=range(len(GOING_TOGETHER)))
def test_what_goes_together_stays_as_it_is(request_: Request) -> None:
    assert consistent(request_) is request_


def test_every_contradiction_is_met_by_a_case() -> None:
    met = {row.sentence for row in CONTRADICTIONS for case, _ in EXCLUDING if row.holds(case)}
    assert met == {row.sentence for row in CONTRADICTIONS}


def test_in_a_job_file_its_line_is_told() -> None:
    with pytest.raises(JobFileError, match=r"^job.yaml:2:18: no machine of your own is sold as spot"):
        read_job("model: 7b\nwhere: {host: a, spot: true}", name="job.yaml")
