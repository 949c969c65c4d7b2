"""Features of the step on a card: each row of `python -m benchmarks.training.features` that records its launches.

A run of the whole loop, whose widths are few and whose base is judged between steps, learns what the eager one does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from benchmarks.training import features
from remote.__main__ import carry_out
from remote.contract import OUTCOME_FILE, EndReason, Event, Outcome, Strategy, decode
from remote.watch import Watch
from tests.remote.conftest import LOOP, STRATEGY, MakeJob

pytestmark = [pytest.mark.gpu, pytest.mark.torch]

RECORDED = {name: row for name, row in features.ROWS.items() if row.recorded}
ON_CARD = msgspec.structs.replace(
    STRATEGY, param_dtype="bfloat16", autocast="bfloat16", optimizer="adamw_torch_fused", loss="chunked", micro_batch_size=2,
    gradient_accumulation_steps=2, gradient_checkpointing="non_reentrant",
)  # fmt: skip


@pytest.fixture(autouse=True)
def card() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.fail("this test needs an NVIDIA GPU that torch can use; run it by `make test-gpu` on a machine with one")


@pytest.mark.parametrize("name", RECORDED)
def test_gradients_that_are_played_are_those_that_are_launched(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing of the card is read within such a step."""
    monkeypatch.setattr(features, "ROWS", {name: RECORDED[name]})
    text, whole = features.table("cuda", tiny=False)
    assert whole, text


@pytest.mark.parametrize("quant", ["none", "nf4"])
def test_a_whole_run_learns_the_same(quant: str, make_job: MakeJob, events_of: Callable[[Path], list[Event]]) -> None:
    said = msgspec.convert(msgspec.to_builtins(ON_CARD) | {"quant": quant}, Strategy)
    outcomes = []
    for cuda_graphs in (False, True):
        loop = msgspec.structs.replace(LOOP, cuda_graphs=cuda_graphs)
        job = make_job(f"graphs-{cuda_graphs}", strategy=said, loop=loop, device="cuda")
        carry_out(job, watch=Watch())
        outcomes.append(decode(job.with_name(OUTCOME_FILE).read_bytes(), Outcome))
        assert [event for event in events_of(job) if event.kind == "warning" and "cuda_graphs" in event.data["message"]] == []
    assert [outcome.reason for outcome in outcomes] == [EndReason.COMPLETED, EndReason.COMPLETED]
    eager, played = (outcome.after for outcome in outcomes)
    assert eager is not None
    assert played is not None
    assert played.mean_loss == pytest.approx(eager.mean_loss, rel=1e-2)
