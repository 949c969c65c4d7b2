"""Job files: read with line and column in every complaint, written with comments, and equal after both."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalogs.bases.models import is_size
from planner.asked import read_asked
from planner.asking.case import check_quant
from planner.asking.checks import TAKEN_TAGS
from planner.asking.contradictions import CONTRADICTIONS
from planner.asking.data import DataFile, measured_data
from planner.asking.jobfile import read_job
from planner.asking.jobfile.marks import CHOSEN
from planner.asking.jobfile.positions import JobFileError, read_document
from planner.asking.jobfile.sections import job_schema
from planner.asking.options.overlay import request_of
from planner.asking.request import Budget, DataAsked, Keep, Purpose, Request, RequestError, Where
from planner.asking.rules import AUTO, said_of_loop, with_loop
from planner.asking.training_keys import ELSEWHERE, TRAINING_KEYS
from planner.choice.recipes import DEPLOYMENTS, OF_THE_LOOP, USE_CASES
from planner.refusals import CaseError
from planner.report.job_file import COMMENTS, NO_FILE, pinned, write_job
from remote.contract import Loop, Reading
from tests.planner.builders import ask, counted, make_catalog, make_offer, make_plan, make_request, parsed

ROOT = Path(__file__).parents[3]
REFUSED_WITHIN_S = 10.0  # measured 3 s for as many values as are looked at, on a machine that is busy
CONTRACT = json.loads(files("planner").joinpath("estimate.schema.json").read_text())
SCHEMA = ROOT / "docs/schemas/job-file.schema.json"
EXAMPLES = sorted(ROOT.glob("examples/**/*.yaml"))

WHOLE = """\
version: 1
model: Qwen/Qwen2.5-7B-Instruct
training:
  method: lora
  rank: 8
  target_modules: [q_proj, v_proj]
  global_batch_size: 32
loop:
  epochs: 2
  learning_rate: 1e-4
data:
  examples: 5_000
  mean_tokens: 300
  max_tokens: 900
budget: {max_cost: 4.10, max_hours: 2.5}
where:
  gpu_budget: 24GB
  providers: [aws]
  spot: false
keep:
  adapter: ./adapter
tags: {team: search}
"""


def read(text: str) -> Request:
    """A job file under the name that the complaints show."""
    return read_job(text, name="job.yaml", measure=counted)


# ── reading ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_section_reaches_the_request() -> None:
    """One example of everything."""
    assert read(WHOLE) == Request(
        model="Qwen/Qwen2.5-7B-Instruct",
        training={"method": "lora", "rank": 8, "target_modules": ["q_proj", "v_proj"]},
        global_batch_size=32,
        loop=Loop(epochs=2.0, learning_rate=1e-4),
        said_of_loop=("learning_rate",),
        data=DataAsked(num_examples=5_000, mean_tokens=300.0, max_tokens=900, basis="stated"),
        where=Where(gpu_memory_gib=24.0, providers=("aws",), spot=False),
        budget=Budget(max_usd=Decimal("4.10"), max_hours=2.5),
        keep=Keep(adapter="./adapter"),
        tags={"team": "search"},
    )


def test_a_model_is_enough() -> None:
    """The rest is the default job."""
    request = read("model: 7b")
    assert (request.data.num_examples, request.data.basis, request.loop) == (1_000, "default", Loop())


def test_a_file_is_counted_and_a_size_is_stated() -> None:
    """As it is read by the trainer: so many rows of this format."""
    found = read("model: 7b\ndata: {file: a.jsonl, max_rows: 500, format: text, held_out: b.jsonl}").data
    file = DataFile(path="a.jsonl", model="7b", reading=Reading(format="text", max_rows=500))
    assert found == measured_data(file, measure=counted, held_out_path="b.jsonl")
    assert read("model: 7b\ndata: {file: a.jsonl, held_out_rows: 0}").data.held_out_rows == 0
    stated = read("model: 7b\ndata: {examples: 7, mean_tokens: 10, max_tokens: 20, held_out_rows: 3}").data
    assert (stated.num_examples, stated.basis, stated.held_out_rows) == (7, "stated", 3)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--examples", "10", "--seq-len", "2048"), "training: {seq_len: 2048}\ndata: {examples: 10}"),
        (("--examples", "10", "--tokens", "3000"), "data: {examples: 10, mean_tokens: 300}"),
        (("--examples", "10", "--tokens", "9000"), "data: {examples: 10, mean_tokens: 900}"),
        (("--seq-len", "256"), "training: {seq_len: 256}"),
    ],
    ids=str,
)
def test_the_same_words_mean_the_same_data_as_options(options: tuple[str, ...], text: str) -> None:
    """What is not said follows by one rule."""
    assert read(f"model: 7b\n{text}").data == request_of(parsed("--model", "7b", *options)).data


def test_full_tuning_learns_slower_unless_a_rate_is_said() -> None:
    """The default follows the method."""
    assert read("model: 7b\ntraining: {method: full}").loop.learning_rate == pytest.approx(2e-5)
    assert read("model: 7b\ntraining: {method: full}\nloop: {learning_rate: 1e-3}").loop.learning_rate == pytest.approx(1e-3)


def test_what_the_job_is_for_sets_the_loop_unless_it_is_said() -> None:
    """Key by key; options over the file change what nobody said in it, and keep the rest."""
    text = "model: 3b\npurpose: {use_case: classification}\nloop: {schedule: cosine}\n"
    loop = read(text).loop
    assert (loop.schedule, loop.warmup_ratio) == ("cosine", 0.06)
    over = request_of(parsed("--use-case", "chat"), start=read(text)).loop
    assert (over.schedule, over.warmup_ratio) == ("cosine", 0.03)


def test_a_rate_that_is_said_as_it_would_be_advised_stands_when_options_change_the_advice() -> None:
    """Also in a file that was saved, and in the plan of one; where nobody said a rate it becomes that of a short run."""
    options = parsed("--use-case", "chat", "--examples", "200")
    said = read("model: 7b\nloop: {learning_rate: 2e-4}\n")
    for start in (said, read(write_job(said)), read(write_job(make_plan(request=said)))):
        assert request_of(options, start=start).loop.learning_rate == pytest.approx(2e-4)
    assert request_of(options, start=request_of(parsed("--rank", "4"), start=said)).loop.learning_rate == pytest.approx(2e-4)
    assert request_of(options, start=read("model: 7b")).loop.learning_rate == pytest.approx(3e-4)


def test_auto_may_be_written_out() -> None:
    """It is resolved later, before a Strategy exists."""
    assert read("model: 7b\ntraining: {method: auto}").training == {"method": "auto"}


@pytest.mark.parametrize(
    ("text", "complaint", "hint"),
    [
        ("model: 7b\ntraining:\n  rnk: 8", "job.yaml:3:3: there is no key rnk under training", 'did you mean "rank"?'),
        ("modle: 7b", "job.yaml:1:1: there is no key modle", 'did you mean "model"?'),
        ("model: 7b\nrank: 8", "job.yaml:2:1: there is no key rank", "write it under `training:`"),
        ("model: 7b\ntraining: {epochs: 2}", "job.yaml:2:12: there is no key epochs under training", "under `loop:`"),
        ("model: 7b\nloop: {epoch: 1}", "job.yaml:2:8: there is no key epoch under loop", 'did you mean "epochs"?'),
        ("model: 7b\nkeep: {adaptor: x}", "job.yaml:2:8: there is no key adaptor under keep", 'did you mean "adapter"?'),
        ("model: 7b\nloop:\n  epochs: many", 'job.yaml:3:3: loop.epochs must be a number, not text ("many")', None),
        ("model: 7b\nloop:\n  layers: [1, x]", "job.yaml:3:15: loop.layers.1 must be a whole number, not text", None),
        ("model: 7b\nloop: {schedule: cosinus}", 'loop.schedule can\'t be "cosinus"', 'did you mean "cosine"?'),
        ("model: 7b\ntask: causal", 'job.yaml:2:1: task can\'t be "causal"', 'did you mean "causal_lm"?'),
        ("model: 7b\nwhere: {gpus: L4}", "job.yaml:2:9: where.gpus must be a list, not text", None),
        ("model: 7b\nwhere: {gpu_budget: lots}", 'job.yaml:2:9: "lots" is not a memory size', None),
        ("model: 7b\nwhere: 3", "job.yaml:2:1: where must be `key: value` lines, not a whole number", None),
        ("model: 7b\ntags: {a: 1}", "job.yaml:2:8: tags.a must be text, not a whole number", None),
        ("model: 7b\nversion: 2", "job.yaml:2:1: version can't be 2", "one of 1"),
        ("training: {rank: 4}", "job.yaml:1:1: the file names no model", "`model: 7b`"),
        ("model: 7b\ntraining: {quant: nf5}", 'job.yaml:2:12: quant can\'t be "nf5"', 'did you mean "nf4"?'),
        ("model: 7b\ntraining: {rank: 0}", "job.yaml:2:12: rank is 0", "such as rank 16"),
        (
            "model: 7b\ntraining: {objective: dpo}",
            "job.yaml:2:12: a plan has no place for objective=dpo",
            "leave objective out",
        ),
        ("model: 7b\ntraining: {method: qlora, quant: none}", "job.yaml:2:27: method qlora means quant nf4", "method lora"),
        ("model: 7b\ntraining: {method: full, quant: nf4}", "job.yaml:2:26: method full trains weights", "quant none"),
        ("model: 7b\ntraining: {num_gpus: 2}", "job.yaml:2:12: num_gpus does not stand under training", "under `where:`"),
        ("model: 7b\ntraining: {global_batch_size: x}", "job.yaml:2:12: global_batch_size must be a whole number", None),
        ("model: 7b\ndata: {examples: 0, mean_tokens: 5, max_tokens: 5}", "job.yaml:2:8: examples is 0", None),
        ("model: 7b\ndata: {file: a.jsonl, examples: 5}", "job.yaml:2:23: examples says nothing beside a file", "max_rows"),
        ("model: 7b\ndata: {mean_tokens: .nan}", "job.yaml:2:8: mean_tokens is nan", None),
        ("model: 7b\ndata: {mean_tokens: .inf}", "job.yaml:2:8: mean_tokens is inf", None),
        ("model: 7b\ndata: {file: []}", "job.yaml:2:8: the list of files is empty", "file: rows.jsonl"),
        ("model: 7b\ndata: {max_rows: 5}", "job.yaml:2:8: max_rows says nothing without a file", "file: rows.jsonl"),
        ("model: 7b\ndata: {held_out: b.jsonl}", "job.yaml:2:8: held_out says nothing without a file", "file: rows.jsonl"),
        (
            "model: 7b\ndata: {file: a.jsonl, held_out: b.jsonl, held_out_rows: 9}",
            "job.yaml:2:42: held_out_rows keeps rows of `file` back",
            "leave one of them out",
        ),
        ("model: 7b\nloop:\n  learning_rate: .nan", "job.yaml:3:3: learning_rate is nan", None),
        ("model: 7b\nloop:\n  warmup_ratio: 2", "job.yaml:3:3: warmup_ratio is 2", None),
        ("model: 7b\nbudget: {max_cost: ten}", 'budget.max_cost must be an amount such as 12.50, not text ("ten")', None),
        ("model: 7b\nbudget: {max_cost: .nan}", "job.yaml:2:10: max_cost is NaN", None),
        ("model: 7b\nbudget: {max_hours: .inf}", "job.yaml:2:10: max_hours is inf", None),
        (
            "model: 7b\nwhere: {allow_from: [0.0.0.0/0]}",
            "job.yaml:2:9: 0.0.0.0/0 would open SSH on the box to 4,294,967,296 addresses",
            None,
        ),
        ("model: 7b\ntags: {rentune-run: mine}", "job.yaml:2:8: the tag rentune-run is one of ours", None),
        ("- 7b", "job.yaml:1:1: a job file is a list of `key: value` lines", None),
        ("", "job.yaml:1:1: a job file is a list of `key: value` lines", None),
    ],
)
def test_a_mistake_is_told_with_line_column_and_the_nearest_word(text: str, complaint: str, hint: str | None) -> None:
    """One sentence for each kind of mistake."""
    with pytest.raises(JobFileError) as refused:
        read(text)
    assert complaint in str(refused.value)
    assert hint is None or hint in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: [", "job.yaml:1:5: not valid YAML"),
        ("a: 1\na: 2", "job.yaml:2:1: a stands twice in the same section"),
        ("? [1]\n: 2", "job.yaml:1:3: a key must be a word"),
        ("a: &a [*a]", "job.yaml:1:4: nested more than 20 levels deep"),
        ("a: !!python/object:os.system x", "job.yaml:1:4: not valid YAML"),
        ("a: \x07", "job.yaml: not valid YAML"),
        ("[" * 20_000, "job.yaml:1:21: nested more than 20 levels deep"),
        ("model: " + "{a: " * 20_000, "job.yaml:1:84: nested more than 20 levels deep"),
        ("- " * 20_000, "job.yaml:1:41: nested more than 20 levels deep"),
        ("? " * 20_000, "job.yaml:1:41: nested more than 20 levels deep"),
        ("[" + "a," * 30_000 + "]", "job.yaml: holds more than 10,000 values"),
        ("a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)), "10,000 values"),
        ("a: " + "9" * 5_000, "job.yaml:1:1: this is no number"),
        ("a: 2026-13-45", "job.yaml:1:1: this is no number and no date"),
    ],
)
def test_what_is_no_plain_yaml_is_refused(text: str, complaint: str) -> None:
    """Nothing is executed, nothing is endless, and nothing takes long: 20,000 levels took half a minute to refuse."""
    began_s = time.process_time()
    with pytest.raises(JobFileError) as refused:
        read_document(text, name="job.yaml")
    assert time.process_time() - began_s < REFUSED_WITHIN_S
    assert complaint in str(refused.value)
    assert refused.value.hint, "what to type instead"


def test_a_file_longer_than_any_job_is_not_read(tmp_path: Path) -> None:
    """A megabyte of YAML takes ten seconds; a saved plan is JSON, and may have that."""
    job = tmp_path / "job.yaml"
    job.write_text("\n".join(f"k{n}: {'x' * 100}" for n in range(2000)))
    with pytest.raises(RequestError, match=r"job\.yaml is too large: .* at most 131,072 are read"):
        read_asked(parsed("job.yaml"), folder=tmp_path, measure=counted)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("training:\n\trank: 8", "indent with spaces"),
        ('model: "7b', 'write the second quote: `model: "7b"`'),
        ("model: '7b\ntask: causal_lm", "write the second quote"),
        ("training: {rank: 8\nloop: 3", "close the bracket: `{rank: 8}`"),
        ("where: {gpus: [L4, T4}", "close the bracket"),
        ("model: 7b\n training: 5", "begin the keys of one section in the same column"),
        ("training:\n    rank: 8\n  alpha: 3", "begin the keys of one section in the same column"),
        ("model: @base", "put text with signs in quotes"),
        ("model: *base", "put text that begins with * or & in quotes"),
        ("model: 7b\nmodel: 8b", "leave one model out"),
        ("model: 7b\nloop\n", "write a colon and a space behind each key"),
        ("model: %", "put text with signs in quotes"),
    ],
)
def test_a_slip_in_yaml_is_told_with_what_to_type(text: str, hint: str) -> None:
    """By the kind of slip."""
    with pytest.raises(JobFileError) as refused:
        read_document(text, name="job.yaml")
    assert hint in (refused.value.hint or ""), str(refused.value)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("where: {gpus: A100}", "write a list: `gpus: [A100]`"),
        ('loop: {layers: "0-3"}', "write a list: `layers: [0, 1, 2]`"),
        ("where: {spot: yes}", "write `spot: true` or `spot: false`"),
        ("budget: {max_hours: 2h}", "write a number alone, such as `max_hours: 12`"),
        ("budget: {max_cost: 5 dollars}", "write an amount alone, such as `max_cost: 5`"),
        ("data: {examples: 1k}", "write a whole number alone, such as `examples: 1000`"),
        ("loop: {evaluations: many}", "write a whole number alone, such as `evaluations: 4`"),
        ("revision: 5", 'write text, in quotes: `revision: "5"`'),
        ("training: 5", "write its keys on lines of their own, indented under it"),
    ],
)
def test_a_value_of_another_type_is_told_with_what_to_type(text: str, hint: str) -> None:
    """By the kind of type; what is told is read."""
    with pytest.raises(JobFileError) as refused:
        read(f"model: 7b\n{text}")
    assert refused.value.hint == hint
    section = text.partition(":")[0]
    for told in [line for line in hint.split("`")[1::2] if ": " in line]:
        read(f"model: 7b\n{told}" if section == "revision" else f"model: 7b\n{section}: {{{told}}}")  # refused, it raises


def test_a_key_without_a_value_says_nothing() -> None:
    """And a provider is known however it is written."""
    request = read_job("model: 7b\ntraining: {rank: }\nwhere: {providers: [LOCAL]}", name="job.yaml")
    assert request.training == {}
    assert request.where.providers == ("local",)


@pytest.mark.parametrize("folder", ['""', '"  "'])
def test_a_folder_without_a_name_is_refused_where_it_stands(folder: str) -> None:
    """It would have been the run's directory, in silence."""
    with pytest.raises(JobFileError, match=r"^job\.yaml:2:8: keep\.adapter names no folder"):
        read(f"model: 7b\nkeep: {{adapter: {folder}}}")


@pytest.mark.parametrize("heading", ["training", "loop", "data", "purpose", "budget", "where", "keep", "tags"])
def test_a_heading_without_lines_says_nothing(heading: str) -> None:
    """A saved file says that lines marked as the planner's choice may be deleted, all of them."""
    assert read_job(f"model: 7b\n{heading}:\n", name="job.yaml") == read_job("model: 7b\n", name="job.yaml")


# ── writing ────────────────────────────────────────────────────────────────────────────────────────────────────────

TEXT = st.text(min_size=1, max_size=12)
TAG = st.text(st.characters(codec="utf-8").filter(str.isprintable), min_size=1, max_size=12).filter(
    lambda text: not text.lower().startswith(tuple(TAKEN_TAGS))
)
COUNT = st.integers(1, 10**6)
MAYBE_NAMES = st.lists(TEXT, max_size=2).map(tuple)
TRAINING = st.fixed_dictionaries(
    {},
    optional={
        "method": st.sampled_from(["auto", "lora", "full", "qlora"]),
        "rank": st.integers(1, 512),
        "alpha": st.floats(0.1, 512),
        "dropout": st.floats(0, 0.9),
        "target_modules": st.one_of(st.just("all-linear"), st.lists(TEXT, min_size=1, max_size=3)),
        "quant": st.sampled_from(["none", "nf4"]),
        "seq_len": COUNT,
        "double_quant": st.booleans(),
        "method_options": st.dictionaries(TEXT, st.one_of(st.integers(), st.booleans(), TEXT, st.none()), max_size=2),
    },
)


@st.composite
def sizes(draw: st.DrawFn) -> DataAsked:
    """Data that is only stated."""
    mean = draw(st.floats(1, 10**5))
    return DataAsked(
        num_examples=draw(COUNT),
        mean_tokens=mean,
        max_tokens=int(mean) + draw(COUNT),
        basis="stated",
        held_out_rows=draw(st.integers(0, 500)),
    )


@st.composite
def files_of(draw: st.DrawFn, model: str) -> DataAsked:
    """Data in files, as they are counted."""
    path = draw(TEXT)
    reading = Reading(format=draw(st.sampled_from(["auto", "text", "chat"])), max_rows=draw(st.none() | COUNT))
    file = DataFile(path=path, model=model, reading=reading)
    held_out_path = draw(st.none() | TEXT)
    held_out_rows = draw(st.none() | st.integers(0, 500)) if held_out_path is None else None
    return measured_data(file, measure=counted, held_out_path=held_out_path, held_out_rows=held_out_rows)


def go_together(training: dict[str, Any]) -> bool:
    """Whether the method takes the quant."""
    try:
        check_quant(training.get("method", AUTO), training.get("quant"))
    except CaseError:
        return False
    return True


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Requests that make sense, with the strangest texts."""
    model = draw(TEXT.filter(str.strip))
    training: dict[str, Any] = draw(TRAINING.filter(go_together))
    num_gpus: int | None = draw(st.none() | st.integers(1, 16))
    said = draw(st.sets(st.sampled_from(OF_THE_LOOP)))
    request = Request(
        model=model,
        training=training,
        global_batch_size=draw(st.none() | st.integers(1, 1_000).map(lambda share: share * (num_gpus or 1))),
        loop=Loop(
            epochs=draw(st.floats(0.01, 100)),
            max_steps=draw(st.none() | COUNT),
            learning_rate=draw(st.floats(1e-7, 1.0)),
            schedule=draw(st.sampled_from(["constant", "linear", "cosine"])),
            init_adapter=draw(st.none() | TEXT),
            layers=draw(st.none() | st.lists(st.integers(0, 80), min_size=1, max_size=3).map(tuple)),
        ),
        data=draw(sizes() | files_of(model)),
        purpose=Purpose(
            use_case=draw(st.none() | st.sampled_from(USE_CASES)),
            deployment=draw(st.none() | st.sampled_from(DEPLOYMENTS)),
            imbalance=draw(st.none() | st.floats(1, 1_000)),
        ),
        where=Where(
            gpu_memory_gib=draw(st.none() | st.floats(0.5, 500)),
            gpus=draw(MAYBE_NAMES),
            num_gpus=num_gpus,
            providers=tuple(name.lower() for name in draw(MAYBE_NAMES)),  # a Request holds them in lower case
            regions=draw(MAYBE_NAMES),
            instance_types=draw(MAYBE_NAMES),
            spot=draw(st.none() | st.booleans()),
            host=draw(st.none() | TEXT),
            allow_from=draw(st.lists(st.sampled_from(["192.0.2.7/32", "2001:db8::/48"]), max_size=2).map(tuple)),
        ),
        budget=Budget(
            max_usd=draw(st.none() | st.decimals("0.01", "9999", places=2)), max_hours=draw(st.none() | st.floats(0.1, 1000))
        ),
        keep=Keep(adapter=draw(st.none() | TEXT), box_on_failure=draw(st.booleans())),
        tags=draw(st.dictionaries(TAG.filter(str.strip), TAG, max_size=2)),
    )
    return with_loop(request, said={*said, *said_of_loop(request)})


@settings(max_examples=40)
@given(requests().filter(lambda request: not any(wrong.holds(request) for wrong in CONTRADICTIONS)))
def test_what_is_written_reads_back_equal(request: Request) -> None:
    """Whatever names, texts and figures it holds."""
    assert read(write_job(request)) == request


def test_a_saved_plan_leaves_nothing_to_choose() -> None:
    """Its strategy to the letter, its machine by name; read back it is the pinned request."""
    plan = make_plan()
    text = write_job(plan)
    request = read_job(text, name="job.yaml")
    assert request == pinned(plan)
    assert request.where == Where(
        gpus=("Card 24GB",), num_gpus=1, providers=("cloud",), regions=("north",), instance_types=("one",), spot=False
    )
    assert request.training["micro_batch_size"] == 4
    assert "# Planned 2026-11-25: lora r16 bf16, batch 4x4, checkpointing on cloud/north/one/on_demand, about $1.00." in text


def test_a_saved_plan_of_one_gpu_among_many_leads_to_itself() -> None:
    """The box is named, with as many as it has; the file does not ask for a box of one."""
    eight = make_catalog(make_offer(instance_type="eight", num_gpus=Decimal(8)))
    planned = ask(make_request(), eight).recommended
    assert planned is not None
    assert planned.strategy.num_gpus == 1
    again = ask(read_job(write_job(planned), name="job.yaml"), eight).recommended
    assert again is not None
    assert again.name == planned.name


def test_a_saved_plan_tells_the_planners_choices_from_the_users() -> None:
    """What is marked may be deleted: then the planner is asked again."""
    request = make_request(training={"method": "qlora", "rank": 16}, where=Where(providers=("cloud",)))
    strategy = msgspec.structs.replace(make_plan().strategy, quant="nf4", double_quant=True, alpha=20.0)
    text = write_job(make_plan(request=request, strategy=strategy))
    marked = {line.strip().partition(":")[0] for line in text.splitlines() if line.endswith(f"({CHOSEN})")}
    assert {"alpha", "micro_batch_size", "gradient_checkpointing", "gpus", "num_gpus", "regions", "spot"} <= marked
    assert marked.isdisjoint({"method", "rank", "providers", "epochs"})
    assert "  method: qlora" in text, "as it was said; what it means is not said twice"
    assert "double_quant: " not in text
    assert f"# Lines marked ({CHOSEN}) may be deleted" in text
    left = [line for line in text.splitlines() if not line.endswith(f"({CHOSEN})")]
    assert read("\n".join(left)) == request
    assert CHOSEN not in write_job(request)


def test_a_job_without_a_file_says_where_one_goes() -> None:
    """In a comment: the name of a file that is not there would be refused."""
    assert NO_FILE in write_job(make_plan()).splitlines()
    assert (
        NO_FILE
        not in write_job(make_request(data=measured_data(DataFile(path="a.jsonl", model="7b"), measure=counted))).splitlines()
    )


def test_a_written_file_explains_itself() -> None:
    """Every section and most keys carry a comment; no comment is for a key that does not exist."""
    text = write_job(make_plan())
    assert text.count("  # ") >= 12
    schema = job_schema(CONTRACT)["$defs"]
    for key in COMMENTS:
        section, _, name = key.rpartition(".")
        properties = schema["JobFile"]["properties"] if not section or section == "training" else _section(schema, section)
        assert name in (properties["training"]["properties"] if section == "training" else properties), key


def _section(schema: dict[str, Any], section: str) -> dict[str, Any]:
    names = {"loop": "Loop", "data": "DataSection", "budget": "BudgetSection", "where": "WhereSection", "keep": "Keep"}
    names |= {"purpose": "Purpose"}
    properties: dict[str, Any] = schema[names[section]]["properties"]
    return properties


# ── the contract ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_training_takes_the_keys_of_the_estimate_contract() -> None:
    """All but those that a job file says elsewhere, and each of these has a home."""
    keys = set(CONTRACT["$defs"]["case"]["properties"])
    assert set(TRAINING_KEYS) | set(ELSEWHERE) == keys


def test_the_committed_schema_is_the_types_own() -> None:
    """A change of the job file shows as a change of its schema: `python -m tests.planner.asking.test_jobfile` writes it."""
    assert SCHEMA.read_text() == rendered_schema()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_are_valid(path: Path) -> None:
    """For our reader and for anybody's JSON schema validator."""
    values = read_document(path.read_text(), name=path.name).values
    jsonschema.validate(values, json.loads(SCHEMA.read_text()))
    assert not is_size(read_job(path.read_text(), name=path.name, measure=counted).model), "a shape that nobody can train"


def test_the_schema_refuses_what_the_reader_refuses() -> None:
    """Editors that know the schema show the same mistakes."""
    schema = json.loads(SCHEMA.read_text())
    for wrong in ({"model": "7b", "training": {"rnk": 8}}, {"model": "7b", "loop": {"epoch": 1}}, {"rank": 8}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def rendered_schema() -> str:
    """The schema as it is committed."""
    return json.dumps(job_schema(CONTRACT), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(rendered_schema())
