"""Plan → JobSpec: the box is told everything, and nothing else."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from catalogs.catalog import read_catalog
from planner.estimators.time.links import disk_bytes_per_s, host_bytes_per_s
from planner.plan import Plan
from provision.errors import BadInput
from provision.handoff import hand_off, trainer_deadline_s
from provision.prepare.inputs import BaseModel, find_base, input_files, with_absolute_paths
from remote.contract import BY_TWO_SLOTS, Loop
from tests.provision.plans import about


def test_the_strategy_is_passed_verbatim(plan: Plan) -> None:
    """What the planner chose is what the trainer reads."""
    base = find_base(plan.request.model)
    spec = hand_off(
        plan, base, run_id="r1", job_folder="/box/job", billed_since_s=-240.0, started_at_s=0, deadline_at_s=9e9
    ).spec
    assert spec.strategy == plan.strategy
    assert spec.loop == plan.request.loop
    assert (spec.device, spec.planned_peak_bytes, spec.planned_ram_bytes) == ("cpu", plan.host.ram_peak_bytes, None)
    assert (spec.usd_per_hour, spec.billed_since_s) == (float(plan.offer.usd_per_hour), -240.0)  # boot and environment too
    card = next(iter(read_catalog().gpus.values()))
    beside_gpu = msgspec.structs.replace(plan, gpu=card)
    told = hand_off(
        beside_gpu, base, run_id="r1", job_folder="/box/job", billed_since_s=0, started_at_s=0, deadline_at_s=9e9
    ).spec
    assert (told.device, told.planned_peak_bytes) == ("cuda", plan.vram.process_peak_bytes)
    assert told.planned_ram_bytes == plan.host.ram_peak_bytes
    assert spec.planned_link_bytes_per_s is None
    assert told.planned_link_bytes_per_s == host_bytes_per_s(card)
    assert told.planned_read_bytes_per_s is None
    below = msgspec.structs.replace(BY_TWO_SLOTS, num_disk_blocks=3)
    reads = msgspec.structs.replace(
        beside_gpu, strategy=msgspec.structs.replace(plan.strategy, offload="stream", streaming=below)
    )
    told = hand_off(reads, base, run_id="r1", job_folder="/box/job", billed_since_s=0, started_at_s=0, deadline_at_s=9e9).spec
    assert told.planned_read_bytes_per_s == disk_bytes_per_s(plan.offer.provider).p50


def test_every_path_in_the_job_is_a_path_on_the_box_and_travels(plan: Plan) -> None:
    """No file is named that is not shipped, none is shipped that is not named."""
    base = find_base(plan.request.model)
    made = hand_off(plan, base, run_id="r1", job_folder="/box/job", billed_since_s=0, started_at_s=0, deadline_at_s=9e9)
    named = {made.spec.model.location, made.spec.data.train}
    assert set(made.files.values()) == named
    assert all(path.startswith("/box/job/inputs/") for path in named)
    assert {Path(home) for home in made.files} == set(input_files(plan, base))


def test_held_out_rows_and_an_earlier_adapter_travel_too(plan: Plan, tmp_path: Path) -> None:
    """Everything from home has a place there."""
    data = msgspec.structs.replace(plan.request.data, held_out_path=str(tmp_path / "other.jsonl"))
    request = msgspec.structs.replace(plan.request, data=data, loop=Loop(init_adapter=str(tmp_path / "adapter")))
    plan = msgspec.structs.replace(plan, request=request)
    made = hand_off(
        plan, find_base(request.model), run_id="r1", job_folder="/b", billed_since_s=0, started_at_s=0, deadline_at_s=9e9
    )
    assert made.spec.data.held_out == made.files[str(tmp_path / "other.jsonl")]
    assert made.spec.loop.init_adapter == made.files[str(tmp_path / "adapter")]


@pytest.mark.parametrize(
    ("name", "form"),
    [("rows.jsonl", ".jsonl"), ("rows.jsonl.gz", ".jsonl.gz"), ("v2.rows.csv.zst", ".csv.zst"), ("rows.parquet", ".parquet")],
)
def test_the_form_of_the_data_is_to_be_told_by_its_name_on_the_box(plan: Plan, tmp_path: Path, name: str, form: str) -> None:
    request = msgspec.structs.replace(plan.request, data=msgspec.structs.replace(plan.request.data, path=str(tmp_path / name)))
    plan = msgspec.structs.replace(plan, request=request)
    made = hand_off(
        plan, find_base(request.model), run_id="r1", job_folder="/b", billed_since_s=0, started_at_s=0, deadline_at_s=9e9
    )
    assert made.spec.data.train.endswith(form)


@pytest.mark.parametrize(("path", "more"), [("rows", ()), ("rows/*.jsonl", ()), ("rows/b.jsonl", ("rows/a.jsonl",))])
def test_several_files_travel_into_one_folder_in_the_same_order(
    plan: Plan, tmp_path: Path, path: str, more: tuple[str, ...]
) -> None:
    """By their own names, which stand in what the trainer says of them."""
    (tmp_path / "rows").mkdir()
    for name in ("b.jsonl", "a.jsonl"):
        (tmp_path / "rows" / name).write_text('{"text": "a"}\n')
    (tmp_path / "rows" / "notes.md").write_text("no rows")
    data = msgspec.structs.replace(
        plan.request.data, path=str(tmp_path / path), more=tuple(str(tmp_path / each) for each in more)
    )
    request = with_absolute_paths(msgspec.structs.replace(plan.request, data=data))
    plan = msgspec.structs.replace(plan, request=request)
    base = find_base(request.model)
    made = hand_off(plan, base, run_id="r1", job_folder="/b", billed_since_s=0, started_at_s=0, deadline_at_s=9e9)
    assert made.spec.data.train == "/b/inputs/train"
    rows = {home: there for home, there in made.files.items() if "/train/" in there}
    assert rows == {str(tmp_path / "rows" / name): f"/b/inputs/train/{name}" for name in ("a.jsonl", "b.jsonl")}
    assert {Path(home) for home in made.files} == set(input_files(plan, base))


def test_no_rows_are_held_out_where_none_were_asked_for(plan: Plan) -> None:
    """Nothing is not the trainer's default."""
    for number in (0, 8):
        request = msgspec.structs.replace(plan.request, data=msgspec.structs.replace(plan.request.data, held_out_rows=number))
        asked = msgspec.structs.replace(plan, request=request)
        made = hand_off(
            asked, find_base(request.model), run_id="r1", job_folder="/b", billed_since_s=0, started_at_s=0, deadline_at_s=9e9
        )
        assert made.spec.data.held_out_rows == number


def test_a_hub_id_is_fetched_by_the_box(plan: Plan) -> None:
    """Only the data travels then."""
    base = BaseModel(kind="hub", hub_id="owner/name", revision="a" * 40, sha256={"model.safetensors": "b" * 64})
    made = hand_off(plan, base, run_id="r1", job_folder="/b", billed_since_s=0, started_at_s=0, deadline_at_s=9e9)
    assert (made.spec.model.kind, made.spec.model.location) == ("hub", "owner/name")
    assert (made.spec.model.revision, made.spec.model.sha256) == (base.revision, base.sha256)
    assert list(made.files) == [plan.request.data.path]


def test_the_trainer_leaves_before_the_box_does(plan: Plan) -> None:
    """Time to save, fetch and tear down is kept back: what the plan says at p90, at least half a minute."""
    assert trainer_deadline_s(plan, started_at_s=0.0, deadline_at_s=1000.0) == 970.0
    slow = msgspec.structs.replace(plan.duration, phase_s={"save": about(50.0), "teardown": about(20.0)})
    assert trainer_deadline_s(msgspec.structs.replace(plan, duration=slow), started_at_s=0.0, deadline_at_s=1000.0) == 909.0


def test_a_short_run_keeps_most_of_its_time_for_training(plan: Plan) -> None:
    """What is kept back for a slow return is at most a tenth."""
    assert trainer_deadline_s(plan, started_at_s=0.0, deadline_at_s=60.0) == 54.0


def test_a_large_result_has_its_planned_time_to_come_home_however_short_the_run(plan: Plan) -> None:
    """Cut in the middle of the fetch, everything that was paid for would be lost."""
    large = msgspec.structs.replace(plan.duration, phase_s={"save": about(20.0), "fetch": about(100.0), "teardown": about(5.0)})
    assert trainer_deadline_s(msgspec.structs.replace(plan, duration=large), started_at_s=0.0, deadline_at_s=600.0) == 475.0


@pytest.mark.parametrize(
    ("name", "kind"), [("model.gguf", "gguf"), ("config.json", "config"), ("weights", "folder"), ("shape", "config")]
)
def test_a_base_at_home_is_known_by_what_lies_there(tmp_path: Path, name: str, kind: str) -> None:
    """Folders with weights train from them; a bare config trains random weights."""
    (tmp_path / "weights").mkdir()
    for file in ("model.safetensors", "config.json", "tokenizer.json"):
        (tmp_path / "weights" / file).touch()
    (tmp_path / "shape").mkdir()
    for file in ("model.gguf", "config.json", "shape/config.json"):
        (tmp_path / file).touch()
    assert find_base(str(tmp_path / name)) == BaseModel(kind=kind, path=str(tmp_path / name))  # type: ignore[arg-type]


def test_a_size_word_has_no_weights() -> None:
    """It can be planned; to train it, name weights, such as those of the model that has this shape."""
    with pytest.raises(BadInput, match="32b is a shape without weights") as refused:
        find_base("32b")
    assert "Qwen/Qwen2.5-32B, for example" in (refused.value.hint or "")
    assert find_base("owner/name").hub_id == "owner/name"
    assert find_base("Llama-3.1-8b").hub_id == "meta-llama/Llama-3.1-8B"


def test_data_that_is_not_there_is_named(plan: Plan) -> None:
    """Before anything is rented."""
    missing = msgspec.structs.replace(plan.request.data, path="/nowhere/rows.jsonl")
    with pytest.raises(BadInput, match=r"/nowhere/rows\.jsonl is not there"):
        with_absolute_paths(msgspec.structs.replace(plan.request, data=missing))


@pytest.mark.parametrize(
    ("provider", "purchase", "told_by"),
    [("aws", "spot", "aws"), ("gcp", "spot", "gcp"), ("aws", "on_demand", None), ("local", "spot", None)],
)
def test_only_a_spot_machine_listens_and_only_where_somebody_tells(
    plan: Plan, provider: str, purchase: str, told_by: str | None
) -> None:
    """A metadata server is asked by nobody else."""
    plan = msgspec.structs.replace(plan, offer=msgspec.structs.replace(plan.offer, provider=provider, purchase=purchase))
    base = find_base(plan.request.model)
    spec = hand_off(plan, base, run_id="r1", job_folder="/b", billed_since_s=0, started_at_s=0, deadline_at_s=9e9).spec
    assert spec.notice_from == told_by
