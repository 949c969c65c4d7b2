"""Which checkpoints are kept, and which evaluation is the best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote.checkpoints.checkpoint import Progress, Trained, read_progress, restore, with_evaluation, write_checkpoint
from remote.checkpoints.files import steps_in
from remote.contract import Evaluation, Loop, Strategy
from remote.training.optimizers import build_optimizer


def evaluation(step: int, loss: float) -> Evaluation:
    return Evaluation(step=step, mean_loss=loss, row_losses=(loss,))


@given(st.lists(st.floats(0, 9), min_size=2, max_size=9))
def test_the_best_is_the_lowest_loss_after_training_began_and_the_earlier_of_two(losses: list[float]) -> None:
    progress = Progress()
    for step, loss in enumerate(losses):
        progress = with_evaluation(progress, evaluation(step, loss))
    assert progress.best_step == 1 + losses[1:].index(min(losses[1:]))


def trained() -> Trained:
    import torch

    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    model(torch.ones(1, 3)).sum().backward()
    optimizer = build_optimizer(Strategy(method="lora", optimizer="adamw_torch"), model, Loop())
    optimizer.step()
    return Trained(model=model, optimizer=optimizer, scaler=None)


def values(thing: Any) -> list[Any]:
    return [tensor.tolist() for tensor in thing.model.state_dict().values()]


@pytest.mark.torch
def test_the_last_two_and_the_best_are_kept(tmp_path: Path) -> None:
    live, progress = trained(), with_evaluation(Progress(step=2), evaluation(2, 0.5))
    for step in range(1, 7):
        write_checkpoint(tmp_path, live, msgspec.structs.replace(progress, step=step))
    assert steps_in(tmp_path) == [2, 5, 6]
    newest = read_progress(tmp_path)
    assert newest is not None
    assert (newest.step, newest.best_step) == (6, 2)


@pytest.mark.torch
def test_everything_comes_back_as_it_was(tmp_path: Path) -> None:
    import torch

    live = trained()
    write_checkpoint(tmp_path, live, Progress(step=1))
    weights, moments, drawn = values(live), str(live.optimizer.state_dict()), torch.rand(3).tolist()
    other = trained()
    other.model(torch.ones(1, 3)).sum().backward()
    other.optimizer.step()
    assert values(other) != weights
    restore(tmp_path, 1, other)
    assert (values(other), str(other.optimizer.state_dict()), torch.rand(3).tolist()) == (weights, moments, drawn)


def test_no_checkpoint_is_not_a_checkpoint_of_step_0(tmp_path: Path) -> None:
    assert read_progress(tmp_path) is None
