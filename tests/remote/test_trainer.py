"""Whole runs of the smallest real job, and every way that one ends."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from safetensors.torch import load_file

from remote.__main__ import carry_out
from remote.bases.on_disk import prepare_base
from remote.checkpoints.checkpoint import read_progress
from remote.contract import (
    CHECKPOINT_DIR,
    OUTCOME_FILE,
    WEIGHTS_FILE,
    DataSource,
    EndReason,
    Event,
    ModelSource,
    Outcome,
    Phase,
    Reached,
    Strategy,
    decode,
    exit_code,
)
from remote.watch import Watch
from tests.remote.conftest import DATA, LOOP, STRATEGY, Asked, MakeJob, questions

pytestmark = pytest.mark.torch

EventsOf = Callable[[Path], list[Event]]
change = msgspec.structs.replace

STRATEGIES: dict[str, Strategy] = {
    "lora on fp32": STRATEGY,
    "lora on bf16": change(STRATEGY, param_dtype="bfloat16", target_modules=("q_proj", "v_proj"), dropout=0.1, padded=True),
    "qlora": change(
        STRATEGY,
        quant="nf4",
        double_quant=True,
        kbit_upcast="full",
        param_dtype="bfloat16",
        optimizer="adamw_8bit",
        gradient_checkpointing="reentrant",
    ),
    "lora on fp4": change(STRATEGY, quant="fp4", kbit_upcast="full", param_dtype="bfloat16"),
    "lora on int8": change(STRATEGY, quant="int8", gradient_checkpointing="non_reentrant", adapter_dtype="bfloat16"),
    "prompt": change(STRATEGY, method="prompt_tuning", rank=None, num_virtual_tokens=8),
    "prefix": change(STRATEGY, method="prefix_tuning", rank=None, num_virtual_tokens=8, padded=True),
    "lora and prompt": change(STRATEGY, method="lora_prompt", num_virtual_tokens=8, gradient_checkpointing="non_reentrant"),
    "bottleneck": change(STRATEGY, method="bottleneck", rank=16, param_dtype="bfloat16"),
    "norms": change(STRATEGY, method="ln_tuning", rank=None),
    "top block": change(STRATEGY, method="freeze", rank=None, trainable_layers=1, gradient_checkpointing="non_reentrant"),
    "full": change(STRATEGY, method="full", rank=None, optimizer="adamw_torch_fused", gradient_accumulation_steps=2),
}


class Counting(Watch):
    """Counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.made = 0

    def check(self, *, needed_s: float = 0.0) -> None:
        self.made += 1
        super().check(needed_s=needed_s)


def run(job: Path, *, watch: Watch | None = None) -> Outcome:
    code = carry_out(job, watch=watch or Watch())
    outcome = decode(job.with_name(OUTCOME_FILE).read_bytes(), Outcome)
    assert exit_code(outcome) == code, outcome.message
    return outcome


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_run_learns_and_brings_a_verified_result(make_job: MakeJob, events_of: EventsOf, name: str) -> None:
    """From a job file to files that are hashed, reloaded and better than the base on rows they never saw."""
    job = make_job(strategy=STRATEGIES[name])
    outcome = run(job)
    assert (outcome.reason, outcome.trained) == (EndReason.COMPLETED, True)
    assert outcome.before is not None
    assert outcome.after is not None
    assert outcome.after.mean_loss < outcome.before.mean_loss
    assert len(outcome.after.row_losses) == len(outcome.before.row_losses) == 20
    assert [bool(sample.prompt and sample.reference) for sample in outcome.samples] == [True, True]
    assert outcome.measured.steps == 12
    for file in outcome.adapter:
        content = (job.parent / "output" / file.path).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file.size_bytes, file.sha256)
    assert {"README.md", "try.py", "sha256sums.txt", "tokenizer.json"} <= {file.path for file in outcome.adapter}
    (verified,) = [event.data for event in events_of(job) if event.kind == "verified"]
    assert verified["moved_tensors"] == verified["trainable_tensors"]


def test_every_phase_of_the_box_is_told_and_metered(make_job: MakeJob, events_of: EventsOf) -> None:
    job = make_job()
    outcome = run(job)
    phases = [Phase.ENVIRONMENT, Phase.DOWNLOAD, Phase.LOAD, Phase.PROBE, Phase.EVALUATE, Phase.TRAIN, Phase.SAVE]
    assert sorted(outcome.phase_s) == sorted(phases)
    events = events_of(job)
    assert [event.seq for event in events] == list(range(len(events)))
    assert [event.data["step"] for event in events if event.kind == "step"] == list(range(1, 13))
    assert [event.data["step"] for event in events if event.kind == "evaluation"] == [0, 4, 8, 12]
    (probe,) = [event.data for event in events if event.kind == "probe"]
    assert probe["step_s"] > 0
    steps = [event.data for event in events if event.kind == "step"]
    assert steps[-1]["eta_s"] == 0 < steps[0]["eta_s"]
    assert all(step["batch_s"] >= 0 and "spent_usd" not in step for step in steps)
    assert "ram_process_bytes" in next(event.data for event in events if event.kind == "telemetry")
    assert probe["peak_ram_bytes"] > 0
    assert (events[-1].kind, events[-1].data["exit_code"]) == ("ended", 0)


@pytest.mark.fault("F14", tier="code")
def test_a_run_that_has_ended_is_not_run_again(make_job: MakeJob) -> None:
    job = make_job()
    first = run(job)
    before = {path: path.stat().st_mtime_ns for path in job.parent.rglob("*")}
    assert run(job) == first
    assert {path: path.stat().st_mtime_ns for path in job.parent.rglob("*")} == before


def test_training_stops_when_the_held_out_loss_no_longer_falls_and_the_best_weights_come_home(make_job: MakeJob) -> None:
    """Held-out rows answer what is asked otherwise than those that are learned: what is learned first is how answers look, and
    then only what is wrong of them.
    """
    loop = change(LOOP, learning_rate=0.03, schedule="constant", max_steps=60, evaluations=29, early_stopping_evaluations=3)
    job = make_job(loop=loop, data=change(DATA, held_out="held_out.jsonl", held_out_rows=20))
    against = [row | {"completion": "Nothing of all that."} for row in questions(20)]
    (job.parent / "held_out.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in against))
    outcome = run(job)
    assert (outcome.reason, outcome.trained) == (EndReason.STOPPED_EARLY, True)
    assert outcome.after is not None
    assert outcome.after.step < outcome.measured.steps < 60
    best = load_file(job.parent / "checkpoints" / f"step-{outcome.after.step:08d}" / "trainable.safetensors")
    saved = load_file(job.parent / "output" / "adapter_model.safetensors")
    assert {name: saved[name.replace(".default", "")].tolist() for name in best} == {n: t.tolist() for n, t in best.items()}


class Deadline(Watch):
    """A watch whose clock is the number of times that it was asked."""

    def __init__(self, looks: int) -> None:
        self.looks = 0
        super().__init__(deadline_at_s=float(looks), reserve_s=0.0, clock=self._look)

    def _look(self) -> float:
        self.looks += 1
        return float(self.looks)

    def saved_in(self, seconds: float) -> None:
        """Time does not pass while saving."""


@pytest.mark.fault("F19", tier="code")
def test_before_the_deadline_the_best_so_far_is_saved(make_job: MakeJob, events_of: EventsOf) -> None:
    job = make_job()
    outcome = run(job, watch=Deadline(24))
    assert (outcome.reason, outcome.trained, outcome.samples) == (EndReason.DEADLINE, True, ())
    assert 0 < outcome.measured.steps < 12
    evaluated = [event.data["step"] for event in events_of(job) if event.kind == "evaluation"]
    assert (outcome.after is None) == (evaluated == [0])
    assert outcome.reached == Reached(
        step=outcome.measured.steps,
        total_steps=12,
        judged_step=evaluated[-1],
        weights_step=outcome.after.step if outcome.after else outcome.measured.steps,
    )


def test_a_deadline_before_the_first_step_leaves_nothing_to_bring_home(make_job: MakeJob) -> None:
    outcome = run(make_job(), watch=Deadline(3))
    assert (outcome.reason, outcome.trained, exit_code(outcome)) == (EndReason.DEADLINE, False, 3)


@pytest.mark.parametrize("looks", [2, 7, 15, 24, 33])
def test_a_stopped_run_goes_on_to_the_same_result(make_job: MakeJob, events_of: EventsOf, looks: int) -> None:
    """Stopped in load, evaluation or training and started again, it ends with the same bytes as one that never stopped."""
    strategy = change(STRATEGY, dropout=0.1)  # so that random numbers matter
    whole = run(make_job("whole", strategy=strategy))
    job = make_job("stopped", strategy=strategy)
    stopped = run(job, watch=Asked(looks))
    assert (stopped.reason, exit_code(stopped)) == (EndReason.INTERRUPTED, 4)
    told = re.search(r"after step (\d+) of", stopped.message)
    assert stopped.measured.steps == (int(told[1]) if told else 0)  # the receipt shows both
    assert stopped.message.startswith("stopped on request")  # and no promise: whether the box stays is not the trainer's to say
    resumed = run(job)
    assert weights(resumed) == weights(whole)
    assert (resumed.before, resumed.after) == (whole.before, whole.after)
    assert resumed.measured.steps == whole.measured.steps
    numbers = [event.seq for event in events_of(job)]
    assert numbers == list(range(len(numbers)))


def weights(outcome: Outcome) -> str:
    return next(file.sha256 for file in outcome.adapter if file.path == "adapter_model.safetensors")


def test_who_is_told_to_leave_when_all_is_trained_saves_the_result_without_its_samples(make_job: MakeJob) -> None:
    """The last look is after the last batch of the last evaluation; from there on nothing keeps it from its result."""
    looks = Counting()
    assert run(make_job("counted"), watch=looks).samples

    class Late(Counting):
        def check(self, *, needed_s: float = 0.0) -> None:
            super().check(needed_s=needed_s)
            if self.made == looks.made:
                self.ask()

    outcome = run(make_job("told"), watch=Late())
    assert (outcome.reason, outcome.trained, outcome.samples) == (EndReason.COMPLETED, True, ())


def test_an_8_bit_optimizer_also_goes_on_where_it_stopped(make_job: MakeJob) -> None:
    """Its moments live in bytes and block scales; they must come back as they were. (Small tensors stay in fp32.)"""
    strategy = change(STRATEGY, method="full", rank=None, optimizer="adamw_8bit")
    whole = run(make_job("whole", strategy=strategy))
    job = make_job("stopped", strategy=strategy)
    run(job, watch=Asked(24))
    assert run(job).after == whole.after


def test_a_first_adapter_is_trained_on(make_job: MakeJob) -> None:
    first = make_job("first")
    learned = run(first).after
    assert learned is not None
    again = run(make_job("again", loop=change(LOOP, init_adapter=str(first.parent / "output"))))
    assert again.before is not None
    assert again.before.mean_loss == pytest.approx(learned.mean_loss, abs=0.05)
    ended = decode((first.parent / OUTCOME_FILE).read_bytes(), Outcome)
    assert [sample.before for sample in again.samples] == [
        sample.after for sample in ended.samples
    ]  # as it was judged, so shown


@pytest.mark.parametrize("method", ["lora", "vera", "prompt_tuning"])
def test_what_a_stopped_run_had_learned_is_trained_on(make_job: MakeJob, method: str) -> None:
    """Its checkpoint alone is enough, of any method whose result is an adapter; one that somebody has changed is refused."""
    strategy = change(STRATEGY, method=method, rank=None if method == "prompt_tuning" else 4, num_virtual_tokens=4)
    stopped = make_job("stopped", strategy=strategy)
    assert run(stopped, watch=Asked(24)).reason == EndReason.INTERRUPTED
    [*_, newest] = sorted((stopped.parent / CHECKPOINT_DIR).glob("step-*"))
    again = make_job("again", strategy=strategy, loop=change(LOOP, init_adapter=str(newest)))
    begun, held = run(again), read_progress(stopped.parent / CHECKPOINT_DIR)
    assert begun.trained, begun.message
    assert held is not None
    assert held.step > 0
    assert begun.before is not None
    assert held.evaluations[0].mean_loss - begun.before.mean_loss > 0.001  # learned prompts move little in 8 steps
    (newest / WEIGHTS_FILE).write_bytes((newest / WEIGHTS_FILE).read_bytes()[:-1] + b"!")
    refused = run(make_job("changed", strategy=strategy, loop=change(LOOP, init_adapter=str(newest))))
    assert (refused.reason, "is torn or was changed" in refused.message) == (EndReason.BAD_JOB, True)


def test_a_checkpoint_that_trained_other_parts_is_refused(make_job: MakeJob) -> None:
    """Here of other layers, which neither rank nor targets tell."""
    first = make_job("first", loop=change(LOOP, layers=(1,)))
    run(first, watch=Asked(24))
    [*_, newest] = sorted((first.parent / CHECKPOINT_DIR).glob("step-*"))
    outcome = run(make_job("again", loop=change(LOOP, init_adapter=str(newest))))
    assert outcome.reason == EndReason.BAD_JOB
    assert outcome.message.endswith("was made for another base, or trained other parts of it than the job would")
    other = run(make_job("other", strategy=change(STRATEGY, rank=8), loop=change(LOOP, init_adapter=str(newest))))
    assert other.message.endswith("has rank 4, not 8; leave rank out, or say 4")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"strategy": change(STRATEGY, rank=8)}, "has rank 4, not 8; leave rank out, or say 4"),
        ({"strategy": change(STRATEGY, target_modules=("q_proj",))}, "not on q_proj; say the same target_modules"),
        ({"base": "other"}, "is of the base tiny, and the job's is other; name the same base"),
    ],
)
def test_a_first_adapter_of_another_kind_is_refused_before_anything_is_loaded(
    make_job: MakeJob, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    (tmp_path / "earlier").mkdir()
    (tmp_path / "earlier" / "adapter_config.json").write_text(
        '{"r": 4, "target_modules": ["q_proj", "v_proj"], "base_model_name_or_path": "tiny"}'
    )
    strategy, base = changes.get("strategy", STRATEGY), changes.get("base")
    job = make_job("again", strategy=strategy, loop=change(LOOP, init_adapter=str(tmp_path / "earlier")))
    if base is not None:
        said = msgspec.json.decode(job.read_bytes())
        said["model"]["name"] = base
        job.write_bytes(msgspec.json.encode(said))
    outcome = run(job)
    assert outcome.reason == EndReason.BAD_JOB
    assert words in outcome.message


def test_only_the_layers_asked_for_are_adapted(make_job: MakeJob) -> None:
    one, both = run(make_job("one", loop=change(LOOP, layers=(1,)))), run(make_job("both"))
    assert one.trainable_params is not None
    assert both.trainable_params == 2 * one.trainable_params


def test_without_held_out_rows_the_last_weights_are_the_result(make_job: MakeJob) -> None:
    outcome = run(make_job(data=DataSource(train="data.jsonl", held_out_rows=0)))
    assert (outcome.trained, outcome.before, outcome.after, outcome.samples) == (True, None, None, ())


def test_the_result_answers_a_prompt_by_itself(make_job: MakeJob, model_cache: Path) -> None:
    """One answer to every question is learnt by heart within 40 steps: the folder gives it, its base alone does not."""
    rows = [{"prompt": f"What is {n} plus {n + 1}?", "completion": "Ask."} for n in range(100)]
    job = make_job(rows=rows, loop=change(LOOP, max_steps=40))
    outcome = run(job)
    assert [sample.after for sample in outcome.samples] == ["Ask.", "Ask."]
    drawn = ModelSource(kind="config", location=str(job.parent / "config.json"))  # the one of this job
    base = prepare_base(drawn, cache=model_cache, dtype=STRATEGY.param_dtype, seed=LOOP.seed)
    command = [sys.executable, "try.py", "What is 1 plus 2?", "--base", base, "--max-tokens", "8"]
    said, untuned = (
        subprocess.run([*command, *more], cwd=job.parent / "output", capture_output=True, text=True, check=True)
        for more in (["--system", ""], ["--without-adapter"])
    )
    assert said.stdout.strip() == "Ask."
    assert untuned.stdout.strip() != "Ask."
    assert not said.stderr  # no bars, and nothing that a library says to nobody
    alone = subprocess.run(
        [sys.executable, "try.py", "Hello"], cwd=job.parent / "output", capture_output=True, text=True, check=False
    )
    assert alone.returncode == 2
    assert "the base was random weights, which were not kept" in alone.stderr


# ── ends without a result ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("F11", tier="code")
@pytest.mark.fault("F17", tier="code")
@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"strategy": change(STRATEGY, quant="hqq_int3")}, EndReason.BAD_JOB, "can't do quant=hqq_int3"),
        ({"strategy": change(STRATEGY, method="full", quant="nf4")}, EndReason.BAD_JOB, 'method "full" can\'t train'),
        ({"strategy": change(STRATEGY, target_modules=("nowhere",))}, EndReason.BAD_JOB, "nowhere"),
        ({"strategy": change(STRATEGY, seq_len=8)}, EndReason.BAD_JOB, "anything to learn within 8 tokens"),
        ({"data": DataSource(train="elsewhere.jsonl")}, EndReason.BAD_JOB, "no data file at"),
        ({"rows": [*questions(3), {"prompt": "only"}, {}]}, EndReason.BAD_JOB, "data.jsonl:4: none of the keys output"),
        ({"loop": change(LOOP, learning_rate=0.0)}, EndReason.VERIFY_FAILED, "is the learning rate 0"),
        ({"loop": change(LOOP, learning_rate=1e30, warmup_ratio=0.0)}, EndReason.DIVERGED, "a lower learning rate"),
        ({"planned_peak_bytes": 10**15}, EndReason.PREFLIGHT, "GiB of RAM are available"),
        ({"deadline_at_s": 1.0}, EndReason.DEADLINE, "deadline"),
    ],
)
def test_what_can_not_work_ends_typed_with_one_sentence(
    make_job: MakeJob, changes: dict[str, Any], reason: EndReason, words: str
) -> None:
    job = make_job(**changes)
    outcome = run(job, watch=Watch(deadline_at_s=changes.get("deadline_at_s")))
    assert (outcome.reason, outcome.trained) == (reason, False)
    assert words in outcome.message
    assert "\n" not in outcome.message


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "truncated"), ('{"run_id": "r"}', "missing required field"), ('{"run_id": 7}', "$.run_id")],
)
def test_a_job_file_that_can_not_be_read_says_where(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "job.json").write_text(content)
    outcome = run(tmp_path / "job.json")
    assert outcome.reason == EndReason.BAD_JOB
    assert words in outcome.message
