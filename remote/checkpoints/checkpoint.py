"""Everything a restarted trainer needs to go on as if nothing had happened, moved into place whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from remote.adapters.ranks import Ranks
from remote.checkpoints.files import Hashing, bits_of, fsynced, fsynced_folder, steps_in
from remote.checkpoints.same_job import Learned
from remote.contract import (
    KEPT_CHECKPOINTS,
    PROGRESS_FILE,
    STATE_FILE,
    WEIGHTS_FILE,
    BestBy,
    EndReason,
    Evaluation,
    Judged,
    Strategy,
    checkpoint_name,
    decode,
    encode,
)
from remote.digest import sha256_of
from remote.ends import Ended, bad_job
from remote.training.best import is_better

MAKING: Final = ".making"  # what is being written, until it is whole
TRIAL: Final = ".making-trial"  # a folder of them that goes with what was being written
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
    sha256: dict[str, str] = {}  # of the files beside it, hex; nothing of a trainer of before 2026-12
    strategy: Strategy | None = None  # that is carried out; None of a trainer of before 2026-12: the job's
    learned: Learned | None = None  # what the job asks for beside it; None likewise

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


def write_checkpoint(folder: Path, trained: Trained, progress: Progress, *, keep: int = KEPT_CHECKPOINTS) -> int:
    """Write `folder/step-…` (fsynced, read back, renamed) and drop all but the last `keep` and the best. Returns its bytes.

    At every moment of it the checkpoints that lie in `folder` are whole, or `put_right` makes them so. Raises `Ended` (verify
    failed) where the disk does not give back what was written to it.
    """
    import torch
    from safetensors.torch import save_file

    making = folder / MAKING
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    weights = {name: parameter.detach().contiguous().cpu() for name, parameter in trainable(trained.model)}
    save_file(weights, making / WEIGHTS_FILE)
    with Hashing(making / STATE_FILE) as out:
        torch.save(_state(trained), out)
    size_bytes = fsynced(making / WEIGHTS_FILE) + fsynced(making / STATE_FILE)
    _require_as_written(making, weights, out.sha256)
    sums = {WEIGHTS_FILE: sha256_of(making / WEIGHTS_FILE), STATE_FILE: out.sha256}
    (making / PROGRESS_FILE).write_bytes(encode(msgspec.structs.replace(progress, sha256=sums)))
    size_bytes += fsynced(making / PROGRESS_FILE)
    _put_in_place(making, folder / checkpoint_name(progress.step))
    _prune(folder, newest=keep, best=progress.best_step, written=progress.step)
    return size_bytes


def tried_checkpoint(folder: Path, trained: Trained) -> int:
    """Write one that nobody will read, and take it away: how large they will be, and how long they take. Returns its bytes."""
    trial = folder / TRIAL
    try:
        return write_checkpoint(trial, trained, Progress())
    finally:
        shutil.rmtree(trial, ignore_errors=True)


def _require_as_written(making: Path, weights: Mapping[str, Any], state_sha256: str) -> None:
    """Raises `Ended` (verify failed). Read from the disk: what memory kept of the files was let go of."""
    import torch
    from safetensors import safe_open

    with safe_open(making / WEIGHTS_FILE, framework="pt") as file:
        same = all(torch.equal(bits_of(file.get_tensor(name)), bits_of(tensor)) for name, tensor in weights.items())
    if not same or sha256_of(making / STATE_FILE) != state_sha256:
        raise Ended(
            EndReason.VERIFY_FAILED,
            "the disk does not give back the checkpoint that was written to it; the one before it is whole, and another "
            "machine is the cure",
        )


def bytes_of(trained: Trained) -> int:
    """What a checkpoint of it takes: weights and moments; all else is small."""
    import torch

    moments = (value for state in trained.optimizer.state_dict().get("state", {}).values() for value in state.values())
    tensors = [parameter for _, parameter in trainable(trained.model)]
    return sum(tensor.numel() * tensor.element_size() for tensor in (*tensors, *moments) if isinstance(tensor, torch.Tensor))


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


def read_progress(folder: Path, tell: Callable[[str], object] = lambda _words: None) -> Progress | None:
    """The newest whole checkpoint's progress; None where there is none. One that is torn goes, and is told of."""
    for step in reversed(steps_in(folder)):
        progress = _whole(folder / checkpoint_name(step))
        if progress is None:
            shutil.rmtree(folder / checkpoint_name(step))
            tell(f"the checkpoint of step {step} is torn or was changed, so the run goes on from the one before it")
            continue
        best = progress.best_step
        if best not in (None, step) and _whole(folder / checkpoint_name(best)) is None:
            tell(f"the best weights so far, of step {best}, are torn or gone, so the best of those to come will be the result")
            return msgspec.structs.replace(progress, best_step=None)
        return progress
    return None


def _whole(place: Path) -> Progress | None:
    """Its progress, where every file is what its progress says; those of a trainer of before 2026-12 say nothing."""
    try:
        progress = decode((place / PROGRESS_FILE).read_bytes(), Progress)
        found = {name: sha256_of(place / name) for name in (WEIGHTS_FILE, STATE_FILE)}
    except (OSError, msgspec.DecodeError):
        return None
    return progress if not progress.sha256 or progress.sha256 == found else None


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


def begin_with(place: Path, model: Any) -> None:
    """Fill the trainable parameters with what an earlier run's checkpoint in `place` has learned; the optimizer begins anew.

    Raises `Ended` (bad job) for one that is torn, and for one whose parameters have other names or shapes.
    """
    from safetensors.torch import load_file

    if _whole(place) is None:
        raise bad_job(f"the checkpoint in {place} is torn or was changed; take another, or leave init_adapter out")
    weights = load_file(place / WEIGHTS_FILE)
    if {name: tensor.shape for name, tensor in weights.items()} != {name: each.shape for name, each in trainable(model)}:
        raise bad_job(f"the checkpoint in {place} was made for another base, or trained other parts of it than the job would")
    copy_weights(weights, model)


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


def _prune(folder: Path, *, newest: int, best: int | None, written: int) -> None:
    kept = {*steps_in(folder)[-newest:], best, written}
    for step in steps_in(folder):
        if step not in kept:
            shutil.rmtree(folder / checkpoint_name(step))


def with_evaluation(progress: Progress, evaluation: Evaluation, by: BestBy = "loss") -> Progress:
    """`progress` with one evaluation more. The best after step 0 is told `by` that, and on a tie is the earlier one."""
    best = progress.evaluation_at(progress.best_step)
    is_best = evaluation.step > 0 and (best is None or is_better(evaluation, best, by))
    return msgspec.structs.replace(
        progress,
        evaluations=(*progress.evaluations, evaluation),
        best_step=evaluation.step if is_best else progress.best_step,
    )
