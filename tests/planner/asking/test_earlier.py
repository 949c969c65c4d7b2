"""An earlier adapter is looked at before anything is planned: its rank is the job's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from planner.asking.earlier import PICKLED, WEIGHTS, continued
from planner.asking.request import Request, RequestError
from remote.contract import ADAPTER_CONFIG, PROGRESS_FILE, WEIGHTS_FILE, Begun, Loop, Strategy, encode
from remote.contract.earlier import OfBase
from tests.planner.builders import make_request


def job(folder: Path, **training: object) -> Request:
    """A job that goes on with the adapter in `folder`."""
    return make_request(training=training, loop=Loop(init_adapter=str(folder)))


def adapter(folder: Path, *, config: str = '{"r": 4}', weights: str = WEIGHTS) -> Path:
    """What peft saves, as far as the planner reads it."""
    (folder / ADAPTER_CONFIG).write_text(config)
    (folder / weights).touch()
    return folder


def test_a_job_that_begins_anew_is_left_as_it_is() -> None:
    assert continued(make_request(training={"rank": 3})).training == {"rank": 3}


def test_the_rank_of_the_adapter_is_planned_with(tmp_path: Path) -> None:
    """Where it was said, it was said rightly."""
    adapter(tmp_path)
    assert continued(job(tmp_path)).training == {"rank": 4}
    assert continued(job(tmp_path, rank=4, quant="nf4")).training == {"rank": 4, "quant": "nf4"}


def test_another_rank_than_the_adapters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="has rank 4, not 8") as refused:
        continued(job(adapter(tmp_path), rank=8))
    assert refused.value.hint == "leave rank out, or say 4"


@pytest.mark.parametrize(
    ("config", "sentence"),
    [("{", "is not JSON"), ("[]", "names no rank"), ('{"r": "x"}', "names no rank"), (json.dumps({}), "names no rank")],
)
def test_what_is_no_adapter_is_refused_with_its_folder(config: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=sentence) as refused:
        continued(job(adapter(tmp_path, config=config)))
    assert str(tmp_path) in str(refused.value)


def test_a_folder_without_weights_or_none_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="No such file"):
        continued(job(tmp_path / "none"))
    (tmp_path / ADAPTER_CONFIG).write_text('{"r": 4}')
    with pytest.raises(RequestError, match=f"holds no {WEIGHTS}"):
        continued(job(tmp_path))


@pytest.mark.parametrize(
    ("config", "said", "sentence"),
    [
        ({"base_model_name_or_path": "owner/other-7b"}, {}, "is of the base owner/other-7b, and the job's is"),
        ({"target_modules": ["v_proj", "q_proj"]}, {"target_modules": ["q_proj"]}, "hangs on q_proj, v_proj, not on q_proj"),
    ],
)
def test_an_adapter_of_another_base_or_other_targets_is_refused(
    config: dict[str, object], said: dict[str, object], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match=sentence):
        continued(job(adapter(tmp_path, config=json.dumps({"r": 4} | config)), **said))


def test_the_same_base_may_lie_elsewhere_and_targets_in_another_order(tmp_path: Path) -> None:
    """Its name alone is compared: the hub's, a folder's or a file's."""
    name = make_request().model
    config = {
        "r": 4,
        "base_model_name_or_path": f"/srv/{name.rpartition('/')[2].upper()}",
        "target_modules": ["v_proj", "q_proj"],
    }
    assert (
        continued(job(adapter(tmp_path, config=json.dumps(config)), target_modules=["q_proj", "v_proj"])).training["rank"] == 4
    )


STRATEGY = Strategy(method="dora", rank=4, target_modules=("q_proj", "v_proj"), quant="nf4", double_quant=True)


def checkpoint(folder: Path, strategy: Strategy = STRATEGY, *, base: str | None = None, progress: bytes | None = None) -> Path:
    """What the trainer saves, as far as the planner reads it."""
    told = encode(Begun(strategy=strategy, learned=OfBase(base=base or make_request().model)))
    (folder / PROGRESS_FILE).write_bytes(told if progress is None else progress)
    (folder / WEIGHTS_FILE).touch()
    return folder


def test_a_checkpoint_fixes_all_that_its_weights_are_named_by(tmp_path: Path) -> None:
    """What nobody says of the method is as it was, the base's packing too; alpha is what it stood for."""
    fixed = {"rank": 4, "target_modules": ("q_proj", "v_proj"), "alpha": 8.0}
    checkpoint(tmp_path)
    assert continued(job(tmp_path)).training == fixed | {"method": "dora", "quant": "nf4", "double_quant": True}
    said = {"method": "dora", "alpha": 16.0, "target_modules": ["v_proj", "q_proj"]}
    assert continued(job(tmp_path, **said)).training == fixed | {"method": "dora", "alpha": 16.0}
    checkpoint(tmp_path, msgspec.structs.replace(STRATEGY, method="lora"))
    assert continued(job(tmp_path, method="qlora")).training == fixed | {"method": "qlora"}


def test_weights_that_are_pickled_are_not_read(tmp_path: Path) -> None:
    """What may run code where it is loaded is refused with what makes data of it."""
    (tmp_path / ADAPTER_CONFIG).write_text('{"r": 4}')
    (tmp_path / PICKLED).touch()
    with pytest.raises(RequestError, match=rf"holds pickled weights \({PICKLED}\)") as refused:
        continued(job(tmp_path))
    assert "save_pretrained" in str(refused.value.hint)


@pytest.mark.parametrize("gone", [PROGRESS_FILE, WEIGHTS_FILE])
def test_half_a_checkpoint_is_called_that(gone: str, tmp_path: Path) -> None:
    """Not an adapter without its configuration."""
    (checkpoint(tmp_path) / gone).unlink()
    with pytest.raises(RequestError, match=f"the checkpoint in .* has no {gone}"):
        continued(job(tmp_path))


@pytest.mark.parametrize(
    ("made", "said", "sentence", "hint"),
    [
        ({}, {"method": "lora"}, "is of method dora, not lora", "say method dora"),
        ({}, {"rank": 8}, "has rank 4, not 8", "leave rank out, or say 4"),
        ({}, {"target_modules": "all-linear"}, "hangs on q_proj, v_proj, not on all-linear", "say the same target_modules"),
        ({"base": "owner/other-7b"}, {}, "is of the base owner/other-7b", "name the same base"),
        ({"progress": b"{}"}, {}, "does not say of which job it is", "an adapter"),
        ({"strategy": Strategy(method="full")}, {}, "is of method full, which can't go on", "an adapter"),
    ],
)
def test_a_checkpoint_of_another_job_is_refused_before_anything_is_planned(
    made: dict[str, Any], said: dict[str, object], sentence: str, hint: str, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match=sentence) as refused:
        continued(job(checkpoint(tmp_path, **made), **said))
    assert hint in str(refused.value.hint)
