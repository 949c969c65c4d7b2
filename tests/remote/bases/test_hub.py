"""A base that the box fetches from the hub: just the commit of the job, weights that are data, each with its hash."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from remote.bases.hub import PATIENCE_S, WANTED
from remote.bases.on_disk import prepare_base
from remote.contract import (
    EVENTS_FILE,
    OUTCOME_FILE,
    SECRETS_VARIABLE,
    EndReason,
    Event,
    JobSpec,
    ModelSource,
    Outcome,
    decode,
    encode,
    parse_event,
)
from tests.doubles.services.hub import Hub, served
from tests.remote.conftest import CONFIG, LOOP, MakeJob, changed

pytestmark = pytest.mark.torch

MODEL = "owner/tiny"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with served() as hub:
        yield hub


@pytest.fixture
def commit(hub: Hub, tmp_path: Path, model_cache: Path) -> str:
    """The first commit of a tiny model with code beside its weights; a second one is the newest."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    source = ModelSource(kind="config", location=str(tmp_path / "config.json"))
    made = Path(prepare_base(source, cache=model_cache, dtype="float32", seed=1))
    files = {file.name: file.read_bytes() for file in made.iterdir()} | {"modeling_tiny.py": b"1 / 0", "old.bin": b"a pickle"}
    commit = hub.commit(MODEL, files)
    hub.commit(MODEL, {**files, "model.safetensors": b"of a later day"})
    return commit


def trained(job: Path, hub: Hub, model: ModelSource) -> Outcome:
    """How the job ends, as a process of its own: huggingface_hub reads its variables when it is imported."""
    spec = decode(job.read_bytes(), JobSpec)
    job.write_bytes(encode(changed(spec, model=model, loop=changed(LOOP, max_steps=2, evaluations=0, num_samples=0))))
    secrets = job.with_name("secrets")
    secrets.write_text(json.dumps({"HF_ENDPOINT": hub.url}))
    unset = ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"HF_HOME": str(job.with_name("hf")), SECRETS_VARIABLE: str(secrets)}
    subprocess.run([sys.executable, "-m", "remote", str(job)], env=environment, capture_output=True, check=False)
    return decode(job.with_name(OUTCOME_FILE).read_bytes(), Outcome)


def test_just_the_commit_of_the_job_is_trained_and_told(hub: Hub, commit: str, make_job: MakeJob) -> None:
    """In the outcome, on the card, and to whoever loads the adapter; nobody else is called, and no code is fetched."""
    weights = hashlib.sha256(hub.commits[MODEL, commit]["model.safetensors"]).hexdigest()
    job = make_job()
    source = ModelSource(kind="hub", location=MODEL, name=MODEL, revision=commit, sha256={"model.safetensors": weights})
    outcome = trained(job, hub, source)
    assert outcome.trained, outcome.message
    assert (outcome.base_revision, outcome.base_sha256) == (commit, {"model.safetensors": weights})
    card = (job.parent / "output/README.md").read_text()
    assert f"| revision of the base | {commit} |" in card
    assert f"{weights}  model.safetensors" in card
    assert json.loads((job.parent / "output/adapter_config.json").read_text())["revision"] == commit
    assert json.loads((job.parent / "output/rentune.json").read_text())["revision"] == commit
    assert {path for path in hub.asked if MODEL not in path or commit not in path} == set()
    assert [path for path in hub.asked if path.endswith((".py", ".bin"))] == []
    [told] = [event for event in events_of(job) if event.kind == "base"]
    assert told.data == {"fetched_bytes": sum(len(data) for name, data in hub.commits[MODEL, commit].items() if wanted(name))}


def wanted(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in WANTED)


def events_of(job: Path) -> list[Event]:
    lines = job.with_name(EVENTS_FILE).read_bytes().splitlines()
    return [event for line in lines if (event := parse_event(line)) is not None]


def test_weights_that_are_not_what_the_hub_said_are_not_trained(hub: Hub, commit: str, make_job: MakeJob) -> None:
    """Somebody between the hub and the box sends others of the same size."""
    honest = hub.commits[MODEL, commit]["model.safetensors"]
    hub.altered["model.safetensors"] = honest[:-1] + bytes([honest[-1] ^ 1])
    sha256 = {"model.safetensors": hashlib.sha256(honest).hexdigest()}
    outcome = trained(make_job(), hub, ModelSource(kind="hub", location=MODEL, revision=commit, sha256=sha256))
    assert (outcome.reason, outcome.trained) == (EndReason.BAD_JOB, False)
    assert "model.safetensors of owner/tiny is not what the hub said" in outcome.message


FETCH = f"""
from pathlib import Path
from remote.bases.on_disk import prepare_base
from remote.contract import ModelSource
from remote.ends import Ended
try:
    folder = prepare_base(ModelSource(kind="hub", location="{MODEL}"), cache=Path("unused"), dtype="float32", seed=0)
    print(sorted(path.name for path in Path(folder).iterdir()))
except Ended as ended:
    print(ended.reason, ended)
"""


def fetched_from(hub: Hub, home: Path) -> str:
    """What a process that only fetches the base says of it."""
    hub.commit(MODEL, {"config.json": b"{}", "model.safetensors": b"weights"})
    own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run([sys.executable, "-c", FETCH], env={**os.environ, **own}, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.fault("F18", tier="code")
@pytest.mark.parametrize("first", [0, 3], ids=["the first request", "a file"])
def test_a_hub_that_asks_to_wait_is_asked_again_when_it_says(hub: Hub, tmp_path: Path, first: int) -> None:
    """Whatever was asked for, twice; then everything is there."""
    hub.busy = range(first, first + 2)
    assert fetched_from(hub, tmp_path) == "['config.json', 'model.safetensors']"
    again = next(number for number, asked in enumerate(hub.asked) if number > first and asked.startswith("GET /api/"))
    assert hub.asked_at_s[again] - hub.asked_at_s[first] >= 1.0


@pytest.mark.fault("F18", tier="code")
def test_a_hub_that_asks_to_wait_for_hours_ends_the_job_at_once(hub: Hub, tmp_path: Path) -> None:
    """Told with a reason, and what helps: a box is paid while it waits."""
    hub.busy, hub.retry_after_s = range(1, 99), int(PATIENCE_S) + 3000
    said = fetched_from(hub, tmp_path)
    assert said.startswith(f"bad_job the hub has had too many requests and gives '{MODEL}' only in 60 min")
    assert "HF_TOKEN" in said
