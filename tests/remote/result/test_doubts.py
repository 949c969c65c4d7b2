"""Whether a training did what it was for."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

import remote.training.loop
from remote.__main__ import carry_out
from remote.contract import OUTCOME_FILE, EndReason, Evaluation, Outcome, Sample, decode
from remote.result.doubts import doubts_of
from remote.result.samples import Prompt
from remote.watch import Watch
from tests.remote.conftest import LOOP, MakeJob


def judged(step: int, loss: float) -> Evaluation:
    return Evaluation(step=step, mean_loss=loss, row_losses=(loss,))


def kinds(before: float | None, after: float | None, *answered: tuple[int | None, bool], tokens: int = 64) -> list[str]:
    """`answered`: (tokens of the answer in the data, whether the model's came to an end)."""
    prompts = [Prompt(text="", shown="", reference="", turn_tokens=told) for told, _ in answered]
    samples = [Sample(prompt="", reference="", before="", after="", ended=ended) for _, ended in answered]
    first, last = (None if loss is None else judged(step, loss) for step, loss in ((0, before), (9, after)))
    return [doubt.kind for doubt in doubts_of(first, last, prompts, samples, sample_tokens=tokens)]


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [(2.0, 1.9, []), (2.0, 2.0, ["no_better"]), (2.0, 2.5, ["no_better"]), (2.0, None, []), (None, None, [])],
)
def test_a_loss_that_did_not_fall_is_doubted_and_none_that_was_not_taken(
    before: float | None, after: float | None, found: list[str]
) -> None:
    assert kinds(before, after) == found


@pytest.mark.parametrize(
    ("answered", "found"),
    [
        ([(20, False), (30, False)], ["endless"]),
        ([(20, False), (30, True)], []),  # one that ends is enough
        ([(20, False)], []),  # one alone says little
        ([(40, False), (50, False)], []),  # they had no room for it
        ([(None, False), (None, False)], []),  # a document has no turn
    ],
)
def test_answers_without_end_are_doubted_where_they_had_twice_the_room(
    answered: list[tuple[int | None, bool]], found: list[str]
) -> None:
    assert kinds(2.0, 1.0, *answered) == found


def classified(auc: float | None, *rows_of_classes: int) -> list[str]:
    """What is doubted of a classification whose loss fell."""
    metrics = {"accuracy": 0.5} if auc is None else {"accuracy": 0.5, "auc": auc}
    after = Evaluation(step=9, mean_loss=1.0, row_losses=(1.0,), metrics=metrics)
    found = doubts_of(judged(0, 2.0), after, [], [], sample_tokens=64, rows_of_classes=rows_of_classes)
    return [doubt.kind for doubt in found]


@pytest.mark.parametrize(
    ("auc", "rows_of_classes", "found"),
    [
        (0.5, (20, 20), ["guessing"]),
        (0.64, (20, 20), ["guessing"]),  # two standard errors are 0.185
        (0.75, (20, 20), []),
        (0.64, (200, 200), []),  # on more rows it says something
        (0.64, (200, 10), ["guessing"]),  # and little where one class has few
        (0.3, (200, 200), ["guessing"]),
        (None, (20, 0), []),  # a class without rows: nobody knows
    ],
)
def test_classes_that_may_as_well_be_guessed_are_doubted(
    auc: float | None, rows_of_classes: tuple[int, ...], found: list[str]
) -> None:
    assert classified(auc, *rows_of_classes) == found


def run(job: Path) -> Outcome:
    assert carry_out(job, watch=Watch()) == 0  # there is a verified result
    return decode(job.with_name(OUTCOME_FILE).read_bytes(), Outcome)


@pytest.mark.torch
def test_a_run_that_made_it_worse_says_so_with_both_figures(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """The judging alone is made up: with each step the loss is said to be higher."""
    monkeypatch.setattr(remote.training.loop, "evaluate", lambda *_, step, **__: judged(step, 2.0 + step / 8))
    outcome = run(make_job(loop=msgspec.structs.replace(LOOP, max_steps=2, evaluations=0)))
    assert (outcome.reason, outcome.trained) == (EndReason.COMPLETED, True)
    (doubt,) = outcome.doubts
    assert doubt.kind == "no_better"
    assert "its loss is 2.2500, the base's 2.0000" in doubt.message


@pytest.mark.torch
def test_a_model_that_has_learned_to_end_its_turns_is_not_doubted(make_job: MakeJob) -> None:
    rows = [{"prompt": f"What is {n} plus {n + 1}?", "completion": "Ask."} for n in range(100)]
    outcome = run(make_job(rows=rows, loop=msgspec.structs.replace(LOOP, max_steps=40, sample_tokens=16)))
    assert [sample.ended for sample in outcome.samples] == [True, True]
    assert outcome.doubts == ()


@pytest.mark.torch
def test_a_model_that_never_ends_its_turns_is(make_job: MakeJob) -> None:
    """It has learned next to nothing, so that what it writes is as random as its weights."""
    rows = [{"prompt": f"What is {n} plus {n + 1}?", "completion": "Ask."} for n in range(100)]
    loop = msgspec.structs.replace(LOOP, max_steps=1, learning_rate=1e-4, sample_tokens=16)
    outcome = run(make_job(rows=rows, loop=loop))
    assert [doubt.kind for doubt in outcome.doubts] == ["endless"]
    assert "none of 2 sample answers ended within 16 tokens, where those in the data end within 8" in str(outcome.doubts)
