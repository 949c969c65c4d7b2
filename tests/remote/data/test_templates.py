"""Conversations and a base without a chat template: nobody can guess which mark stands for whose turn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planner.asking.data import DataFile
from planner.asking.request import RequestError
from provision.prepare.inputs.counting import measured
from remote.contract import NO_TEMPLATE, PLAIN, EndReason, JobSpec, ModelSource, Reading, decode, encode
from remote.data.byte_tokenizer import byte_tokenizer
from remote.data.check import check_data, counter_of
from remote.data.tokens import PLAIN_TEMPLATE, ready
from remote.ends import Ended
from tests.remote.conftest import DATA, LOOP, STRATEGY, MakeJob, changed
from tests.remote.test_trainer import run

pytestmark = pytest.mark.torch

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}
PAIR = {"prompt": "Why?", "completion": "So."}
MARKED = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
SHORT = changed(LOOP, max_steps=2, num_samples=0, evaluations=0)


def bare() -> Any:
    """A tokenizer that brings no template."""
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None
    return tokenizer


def rows_in(folder: Path, row: dict[str, Any], count: int = 30) -> Path:
    path = folder / "rows.jsonl"
    path.write_text(f"{json.dumps(row)}\n" * count)
    return path


def test_what_writes_conversations_is_the_bases_own_or_what_was_said(tmp_path: Path) -> None:
    """A bare base gets the plain one, which nobody chose."""
    (tmp_path / "mine.jinja").write_text(MARKED)
    own, none, plain, mine = byte_tokenizer(), bare(), byte_tokenizer(), bare()
    own.chat_template = MARKED
    assert [ready(own), ready(none), ready(plain, template=PLAIN), ready(mine, template=str(tmp_path / "mine.jinja"))] == [
        True,
        False,
        True,
        True,
    ]
    assert [each.chat_template for each in (own, none, plain, mine)] == [MARKED, PLAIN_TEMPLATE, PLAIN_TEMPLATE, MARKED]
    with pytest.raises(Ended, match=r"the chat template none\.jinja can't be read"):
        ready(bare(), template=str(tmp_path / "none.jinja"))


@pytest.mark.parametrize(("row", "template", "lacks"), [(CHAT, None, True), (CHAT, PLAIN, False), (PAIR, None, False)])
def test_a_look_at_the_file_says_whether_one_is_lacking(
    tmp_path: Path, row: dict[str, Any], template: str | None, lacks: bool
) -> None:
    assert check_data(rows_in(tmp_path, row), counter_of(bare(), template)).no_template is lacks


def base_of(folder: Path, job: Path) -> None:
    """A tokenizer without a template beside the job's configuration."""
    bare().save_pretrained(folder)
    (folder / "config.json").write_text((job.parent / "config.json").read_text())


@pytest.fixture
def make_bare(make_job: MakeJob) -> Any:
    """A job over a base whose tokenizer has no template."""

    def make(name: str, row: dict[str, Any], **data: Any) -> Path:
        model = ModelSource(kind="config", location="base", name="bare")
        source = changed(DATA, held_out_rows=4, **data)
        job = make_job(name, strategy=STRATEGY, loop=SHORT, rows=[row] * 30, data=source)
        job.write_bytes(encode(changed(decode(job.read_bytes(), JobSpec), model=model)))
        (job.parent / "base").mkdir()
        base_of(job.parent / "base", job)
        (job.parent / "mine.jinja").write_text(MARKED)
        return job

    return make


def test_conversations_need_a_template_and_a_question_with_its_answer_needs_none(make_bare: Any) -> None:
    refused = run(make_bare("refused", CHAT))
    assert refused.reason is EndReason.BAD_JOB
    assert refused.message.startswith(f"{NO_TEMPLATE}; take its instruct version")
    for name, row, said in (("pair", PAIR, None), ("plain", CHAT, PLAIN), ("mine", CHAT, "mine.jinja")):
        job = make_bare(name, row, **({} if said is None else {"chat_template": said}))
        assert run(job).trained
        written = (job.parent / "output" / "chat_template.jinja").read_text()
        assert written == (MARKED if name == "mine" else PLAIN_TEMPLATE)


def test_it_is_refused_at_home_where_the_tokenizer_is(tmp_path: Path) -> None:
    """And counted by the template that was named."""
    base, rows = tmp_path / "base", rows_in(tmp_path, CHAT)
    bare().save_pretrained(base)
    (tmp_path / "mine.jinja").write_text(MARKED)

    def told(template: str | None) -> float:
        file = DataFile(path=str(rows), model=str(base), reading=Reading(chat_template=template))
        return measured(file, cache=tmp_path / "cache", say=lambda _: None).mean_tokens

    with pytest.raises(RequestError, match=NO_TEMPLATE) as refused:
        told(None)
    assert "chat_template: plain" in str(refused.value.hint)
    assert told(str(tmp_path / "mine.jinja")) - told(PLAIN) == len("<user><assistant>")
    with pytest.raises(RequestError, match="there is no chat template at"):
        told(str(tmp_path / "none.jinja"))
