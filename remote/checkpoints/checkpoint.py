"""Everything a restarted trainer needs to go on as if nothing had happened, moved into place whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from remote.adapters.ranks import Ranks
from remote.contract import (
    KEPT_CHECKPOINTS,
    PROGRESS_FILE,
    STATE_FILE,
    WEIGHTS_FILE,
    Evaluation,
    Judged,
    checkpoint_name,
    checkpoint_step,
    decode,
    encode,
)

MAKING: Final = ".making"  # what is being written, until it is whole
ASIDE: Final = ".aside-"  # before the name of one that another of the same step replaces, until that is in its place


class Progress(Judged, frozen=True, kw_only=True):
    """How far the run is, and what it has seen. The data's position follows from the step."""

    step: int = 0  # optimizer steps done
    tokens: int = 0  # computed on, padding included
    step_s: tuple[float, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    answers_before: tuple[str, ...] = ()
    initial_sums: dict[str, tuple[float, float]] = {}  # trainable parameter → (sum, sum of magnitudes) before training
    phase_s: dict[str, float] = {}
    peaks: dict[str, int] = {}

    def evaluation_at(self, step: int | None) -> Evaluation | None:
        return next((evaluation for evaluation in self.evaluations if evaluation.step == step), None)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The live objects that a checkpoint holds. `scaler` is there for a float16 autocast, `ranks` for AdaLoRA."""

    model: Any
    optimizer: Any
    scaler: Any
    ranks: Ranks | None = None


def trainable(model: Any) -> Iterator[tuple[str, Any]]:
    """(name, parameter) of what is trained, tied weights once."""
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)


def write_checkpoint(folder: Path, trained: Trained, progress: Progress) -> int:
    """Write `folder/step-…` (fsynced, then renamed) and drop all but the last two and the best. Returns its bytes.

    At every moment of it the checkpoints that lie in `folder` are whole, or `put_right` makes them so.
    """
    import torch
    from safetensors.torch import save_file

    making = folder / MAKING
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    weights = {name: parameter.detach().contiguous().cpu() for name, parameter in trainable(trained.model)}
    save_file(weights, making / WEIGHTS_FILE)
    torch.save(_state(trained), making / STATE_FILE)
    (making / PROGRESS_FILE).write_bytes(encode(progress))
    size_bytes = sum(fsynced(file) for file in making.iterdir())
    _put_in_place(making, folder / checkpoint_name(progress.step))
    _prune(folder, keep={progress.best_step, progress.step})
    return size_bytes


def _put_in_place(making: Path, place: Path) -> None:
    """Give it its name. One of the same step steps aside first: it may be the newest there is."""
    aside = place.with_name(f"{ASIDE}{place.name}")
    if place.exists():
        place.rename(aside)
    making.rename(place)
    fsynced_folder(place.parent)
    shutil.rmtree(aside, ignore_errors=True)


def put_right(folder: Path) -> None:
    """Undo what a kill left half done: what was being written goes, and one that stepped aside for nothing comes back.

    For the one trainer of `folder`, before it reads there.
    """
    for making in folder.glob(f"{MAKING}*"):
        shutil.rmtree(making, ignore_errors=True)
    for aside in folder.glob(f"{ASIDE}*"):
        place = folder / aside.name.removeprefix(ASIDE)
        if place.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.rename(place)


def _state(trained: Trained) -> dict[str, Any]:
    return {
        "optimizer": trained.optimizer.state_dict(),
        "scaler": None if trained.scaler is None else trained.scaler.state_dict(),
        "ranks": None if trained.ranks is None else trained.ranks.state(),
        "rng": rng_state(),
    }


def read_progress(folder: Path) -> Progress | None:
    """The newest checkpoint's progress; None where there is no checkpoint."""
    newest = max(steps_in(folder), default=None)
    return None if newest is None else decode((folder / checkpoint_name(newest) / PROGRESS_FILE).read_bytes(), Progress)


def restore(folder: Path, step: int, trained: Trained) -> None:
    """Put weights, optimizer and random numbers back to where they were at `step`."""
    import torch

    restore_weights(folder, step, trained.model)
    state = torch.load(folder / checkpoint_name(step) / STATE_FILE, map_location="cpu", weights_only=True)
    trained.optimizer.load_state_dict(state["optimizer"])
    if trained.scaler is not None:
        trained.scaler.load_state_dict(state["scaler"])
    if trained.ranks is not None:
        trained.ranks.restore(state["ranks"])
    restore_rng(state["rng"])


def restore_weights(folder: Path, step: int, model: Any) -> None:
    """Put the trained weights back to where they were at `step`."""
    from safetensors.torch import load_file

    copy_weights(load_file(folder / checkpoint_name(step) / WEIGHTS_FILE), model)


def copy_weights(weights: Mapping[str, Any], model: Any) -> None:
    """Fill the trainable parameters from `weights`, in place."""
    import torch

    with torch.no_grad():
        for name, parameter in trainable(model):
            parameter.copy_(weights[name])


def rng_state() -> dict[str, Any]:
    """The state of torch's random numbers, on the host and on every GPU."""
    import torch

    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}


def restore_rng(state: Mapping[str, Any]) -> None:
    import torch

    torch.set_rng_state(state["cpu"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])


def steps_in(folder: Path) -> list[int]:
    """Steps that have a checkpoint, oldest first."""
    return sorted(step for place in folder.glob("*") if (step := checkpoint_step(place.name)) is not None)


def _prune(folder: Path, keep: Iterable[int | None]) -> None:
    kept = {*steps_in(folder)[-KEPT_CHECKPOINTS:], *keep}
    for step in steps_in(folder):
        if step not in kept:
            shutil.rmtree(folder / checkpoint_name(step))


def fsynced(path: Path) -> int:
    """Force a file to the disk; returns its size in bytes."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size


def fsynced_folder(folder: Path) -> None:
    """Force a rename in `folder` to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    making = path.with_name(f".{path.name}.making")
    making.write_bytes(content)
    fsynced(making)
    making.replace(path)
    fsynced_folder(path.parent)


def with_evaluation(progress: Progress, evaluation: Evaluation) -> Progress:
    """`progress` with one evaluation more; the best is the lowest held-out loss after step 0, the earlier one on a tie."""
    best = progress.evaluation_at(progress.best_step)
    is_best = evaluation.step > 0 and (best is None or evaluation.mean_loss < best.mean_loss)
    return msgspec.structs.replace(
        progress,
        evaluations=(*progress.evaluations, evaluation),
        best_step=evaluation.step if is_best else progress.best_step,
    )
