"""An earlier adapter is looked at before anything is planned: its rank is the job's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from planner.asking.earlier import CONFIG, WEIGHTS, continued
from planner.asking.request import Request, RequestError
from remote.contract import Loop
from tests.planner.builders import make_request


def job(folder: Path, **training: object) -> Request:
    """A job that goes on with the adapter in `folder`."""
    return make_request(training=training, loop=Loop(init_adapter=str(folder)))


def adapter(folder: Path, *, config: str = '{"r": 4}', weights: str = WEIGHTS[0]) -> Path:
    """What peft saves, as far as the planner reads it."""
    (folder / CONFIG).write_text(config)
    (folder / weights).touch()
    return folder


def test_a_job_that_begins_anew_is_left_as_it_is() -> None:
    assert continued(make_request(training={"rank": 3})).training == {"rank": 3}


@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_rank_of_the_adapter_is_planned_with(weights: str, tmp_path: Path) -> None:
    """Where it was said, it was said rightly."""
    adapter(tmp_path, weights=weights)
    assert continued(job(tmp_path)).training == {"rank": 4}
    assert continued(job(tmp_path, rank=4, quant="nf4")).training == {"rank": 4, "quant": "nf4"}


def test_another_rank_than_the_adapters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="has rank 4, not 8") as refused:
        continued(job(adapter(tmp_path), rank=8))
    assert refused.value.hint == "rank 4"


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
    (tmp_path / CONFIG).write_text('{"r": 4}')
    with pytest.raises(RequestError, match=f"holds no {WEIGHTS[0]}"):
        continued(job(tmp_path))
