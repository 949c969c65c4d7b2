"""The disk that the plan orders is the disk that the trainer wants and fills: of every method that runs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from catalogs.bases.models import resolve_model
from planner.asking.case import read_case, strategy_of
from planner.estimators.cost import disk_gib
from planner.estimators.host import estimate_host
from planner.units import GIB
from remote.adapters import adapt
from remote.adapters.ranks import Ranks, tuner_of
from remote.checkpoints.checkpoint import Progress, Trained, put_right, read_progress, trainable, write_checkpoint
from remote.checkpoints.files import steps_in
from remote.contract import (
    BY_TWO_SLOTS,
    CAPABILITIES,
    CHECKPOINT_DIR,
    MAX_CHECKPOINTS,
    STATE_FILE,
    WEIGHTS_FILE,
    DataSource,
    EndReason,
    JobSpec,
    Loop,
    ModelSource,
    Strategy,
    checkpoint_name,
)
from remote.ends import Ended
from remote.machine import preflight
from remote.step import settings_of, step
from remote.training.optimizers import build_optimizer
from tests.planner.builders import make_billing
from tests.remote.adapters import test_hung_methods, test_methods
from tests.remote.conftest import STRATEGY

FILE_SYSTEM_SHARE = 0.95  # what ext4 leaves to others than root
FIELDS: dict[str, dict[str, Any]] = {
    "prompt_tuning": {"num_virtual_tokens": 20},
    "p_tuning": {"num_virtual_tokens": 20},
    "prefix_tuning": {"num_virtual_tokens": 20, "gradient_checkpointing": "off"},
    "lora_prompt": {"num_virtual_tokens": 20},
    "freeze": {"trainable_layers": 2},
    "fourierft": {"method_options": {"n_frequency": 1000}},
    "oft": {"rank": None, "method_options": {"oft_block_size": 32}},
    "boft": {"rank": None},
    "ia3": {"rank": None},
}


class Disk(NamedTuple):
    total: int
    used: int
    free: int


def spec_of(strategy: Strategy, planned_disk_bytes: int | None, planned_checkpoint_bytes: int | None = None) -> JobSpec:
    return JobSpec(
        run_id="r",
        model=ModelSource(kind="hub", location="a/b"),
        data=DataSource(train="data.jsonl"),
        strategy=strategy,
        loop=Loop(),
        planned_disk_bytes=planned_disk_bytes,
        planned_checkpoint_bytes=planned_checkpoint_bytes,
    )


def with_free(monkeypatch: pytest.MonkeyPatch, free_bytes: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: Disk(free_bytes, 0, free_bytes))


@pytest.mark.parametrize("method", CAPABILITIES.methods)
def test_a_disk_that_was_ordered_passes_the_trainers_look(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once system, packages and base lie on it, and the file system has taken its part."""
    for optimizer in ("adamw_torch", "adamw_8bit", "sgd"):
        for dtype in ("float32", "bfloat16"):
            said: dict[str, Any] = {"model": "7b", "method": method, "optimizer": optimizer, "adapter_dtype": dtype}
            strategy = strategy_of(read_case(said | FIELDS.get(method, {})))
            host = estimate_host(resolve_model("7b"), strategy, num_gpus=1, on_cpu=False)
            taken = sum(host.disk_components[name] for name in ("system", "environment", "base"))
            ordered_bytes = disk_gib(host, make_billing(minimum_disk_gib=0)) * GIB
            with_free(monkeypatch, int(ordered_bytes * FILE_SYSTEM_SHARE) - taken)
            preflight.check_disk(spec_of(strategy, host.written_bytes), tmp_path)


def test_a_disk_that_is_too_small_is_refused_and_what_lies_there_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trainer that goes on from a checkpoint wants room for the others alone."""
    spec = spec_of(STRATEGY, 4_000_000)
    with_free(monkeypatch, 3_000_000)
    with pytest.raises(Ended, match=r"2\.9 MiB of disk are free, checkpoints and result need up to 3\.8") as refused:
        preflight.check_disk(spec, tmp_path)
    assert refused.value.reason is EndReason.DISK_FULL
    saved = tmp_path / CHECKPOINT_DIR / checkpoint_name(7) / "state.pt"
    saved.parent.mkdir(parents=True)
    saved.write_bytes(bytes(1_000_000))
    preflight.check_disk(spec, tmp_path)


def test_blocks_that_ram_shall_not_hold_need_room_on_the_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They come after the base was fetched, which would have been paid for in vain."""
    streams: dict[str, Any] = {"model": "7b", "quant": "nf4", "offload": "stream"}
    above = msgspec.structs.replace(strategy_of(read_case(streams)), streaming=BY_TWO_SLOTS)
    below = msgspec.structs.replace(above, streaming=msgspec.structs.replace(BY_TWO_SLOTS, num_disk_blocks=20))
    in_ram, on_disk = (estimate_host(resolve_model("7b"), each, num_gpus=1, on_cpu=False) for each in (above, below))
    assert on_disk.written_bytes == in_ram.written_bytes + on_disk.disk_components["streamed"]
    with_free(monkeypatch, in_ram.written_bytes)
    preflight.check_disk(spec_of(above, in_ram.written_bytes), tmp_path)
    with pytest.raises(Ended, match="checkpoints, result and blocks that RAM shall not hold need up to"):
        preflight.check_disk(spec_of(below, on_disk.written_bytes), tmp_path)


def test_a_slow_disk_is_told_by_what_one_checkpoint_takes_whatever_else_is_written() -> None:
    """A gigabyte of blocks that wait there is written once."""
    found = {"disk_write_bytes_per_s": 20e6}
    said = preflight.slow_disk(spec_of(STRATEGY, 9_000_000_000, planned_checkpoint_bytes=2_000_000_000), found)
    assert said is not None
    assert "a checkpoint of 2,000 MB takes about 100 s" in said
    assert preflight.slow_disk(spec_of(STRATEGY, 9_000_000_000, planned_checkpoint_bytes=2_000_000), found) is None


def tensor_bytes(tree: Any) -> int:
    """Of all tensors in it but counters of steps."""
    if isinstance(tree, dict):
        return sum(map(tensor_bytes, tree.values()))
    return tree.numel() * tree.element_size() if hasattr(tree, "numel") and tree.dim() > 0 else 0


def cases() -> Iterator[tuple[str, Strategy]]:
    yield from ((case, test_methods.strategy_of(case)) for case in test_methods.FIELDS)
    yield from ((method, test_hung_methods.strategy_of(method)) for method in test_hung_methods.FIELDS)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("case", "strategy"), list(cases()), ids=[case for case, _ in cases()])
def test_a_checkpoint_is_as_large_as_planned(case: str, strategy: Strategy) -> None:
    """Weights and moments of what trains, by a real optimizer after a real step."""
    config = test_methods.config_of("llama", case)
    model = adapt(test_methods.model_of(config), strategy, Loop())
    optimizer, tuner = build_optimizer(strategy, model, Loop()), tuner_of(model)
    ranks = None if tuner is None else Ranks(tuner, 100)
    if ranks is not None:
        ranks.watch(optimizer)
    step(model.train(), test_methods.batch(), optimizer, settings_of(strategy, "cpu", 1.0))
    written = tensor_bytes(dict(trainable(model))) + tensor_bytes(optimizer.state_dict()["state"])
    if ranks is not None:
        written += (
            tensor_bytes(ranks.state()) * 3 // 2
        )  # it remembers three sums; the third is made anew, and planned for all the same
    host = estimate_host(resolve_model(config), strategy, num_gpus=1, on_cpu=True)
    assert host.disk_components["checkpoints"] == pytest.approx(MAX_CHECKPOINTS * written, rel=0.02)


class Looking:
    """Stands for an optimizer: looks around on the disk at the moment when a checkpoint is being written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.most = 0

    def state_dict(self) -> dict[str, Any]:
        self.most = max(self.most, len(list(self.folder.iterdir())))
        return {}


@pytest.mark.torch
def test_no_more_checkpoints_lie_there_at_once_than_the_disk_is_ordered_for(tmp_path: Path) -> None:
    """The best, the newest, the one before it, and the one that is being written, of a step again as well."""
    import torch

    looking = Looking(tmp_path)
    live = Trained(model=torch.nn.Linear(3, 2), optimizer=looking, scaler=None)
    for number in (0, 1, 2, 3, 3, 4, 4):
        write_checkpoint(tmp_path, live, Progress(step=number, best_step=1))
    assert looking.most == MAX_CHECKPOINTS


class Killed(BaseException):
    """What a SIGKILL does here: nothing runs after it."""


@pytest.mark.torch
@pytest.mark.parametrize("at", range(8))
def test_a_kill_at_any_moment_loses_no_checkpoint_and_leaks_none(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest is written anew, as a trainer does that is told to leave right after it has saved."""
    import torch

    live = Trained(model=torch.nn.Linear(3, 2), optimizer=Looking(tmp_path), scaler=None)
    write_checkpoint(tmp_path, live, Progress(step=1))
    left = iter(range(at))

    def dying(deed: Any) -> Any:
        def act(*args: Any, **said: Any) -> Any:
            if next(left, None) is None:
                raise Killed
            return deed(*args, **said)

        return act

    for place, name in ((Path, "rename"), (shutil, "rmtree"), (os, "fsync")):
        monkeypatch.setattr(place, name, dying(getattr(place, name)))
    with pytest.raises(Killed):
        write_checkpoint(tmp_path, live, Progress(step=1, tokens=9))
    monkeypatch.undo()
    put_right(tmp_path)
    assert steps_in(tmp_path) == [1]
    assert [place.name for place in tmp_path.iterdir()] == [checkpoint_name(1)]
    found = read_progress(tmp_path)
    assert found is not None
    assert set(found.sha256) == {WEIGHTS_FILE, STATE_FILE}  # and the files are what it says, or there were none
    assert msgspec.structs.replace(found, sha256={}) in (Progress(step=1), Progress(step=1, tokens=9))


def test_what_an_earlier_release_left_half_written_goes(tmp_path: Path) -> None:
    for name in (".making-17", ".making"):
        (tmp_path / name).mkdir()
    put_right(tmp_path)
    assert not list(tmp_path.iterdir())
