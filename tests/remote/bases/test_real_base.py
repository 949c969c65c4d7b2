"""The real pretrained base, from its GGUF file to an adapter that is better on rows it never saw."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from remote.__main__ import carry_out
from remote.contract import (
    JOB_FILE,
    MODEL_CACHE_VARIABLE,
    OUTCOME_FILE,
    JobSpec,
    ModelSource,
    Outcome,
    decode,
    encode,
)
from remote.watch import Watch
from tests.remote.conftest import DATA, LOOP, STRATEGY, MakeJob, changed

# On a machine that others use as well.
pytestmark = [pytest.mark.torch, pytest.mark.base, pytest.mark.long, pytest.mark.timeout(1200)]

# A made-up house style: easy to learn in few steps, impossible to guess.
ROWS = [
    {"prompt": f"Where is parcel {n}?", "completion": f"Parcel {n}: shelf {n % 7}, bay {n % 5}. Ask Ms Okafor for the key."}
    for n in range(60)
]


def test_the_real_base_learns_a_house_style(make_job: MakeJob, smollm2_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The held-out loss falls by more than three standard errors of the paired difference, and the answer shows it."""
    monkeypatch.setenv(MODEL_CACHE_VARIABLE, str(smollm2_gguf.parent.parent / "models"))
    job = make_job(
        rows=ROWS,
        strategy=changed(STRATEGY, rank=8, seq_len=128, micro_batch_size=2),
        loop=changed(LOOP, max_steps=12, learning_rate=2e-3, evaluations=0, num_samples=1, sample_tokens=16),
        data=changed(DATA, held_out_rows=8),
    )
    spec = decode(job.read_bytes(), JobSpec)
    source = ModelSource(kind="gguf", location=str(smollm2_gguf), name="SmolLM2-135M-Instruct")
    job.with_name(JOB_FILE).write_bytes(encode(changed(spec, model=source)))
    assert carry_out(job, watch=Watch()) == 0
    outcome = decode(job.with_name(OUTCOME_FILE).read_bytes(), Outcome)
    assert outcome.before is not None
    assert outcome.after is not None
    falls = [b - a for b, a in zip(outcome.before.row_losses, outcome.after.row_losses, strict=True)]
    assert statistics.fmean(falls) > 3 * statistics.stdev(falls) / len(falls) ** 0.5
    (sample,) = outcome.samples
    assert "Okafor" not in sample.before
    assert sample.after.startswith("Parcel")
