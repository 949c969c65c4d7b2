"""The body of `plan`: files read, the answer written, the command right."""

from __future__ import annotations

import json
import re
import shlex
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from catalogs.catalog import read_catalog
from catalogs.failure import Failure
from planner.asked import read_asked
from planner.asking.data import DataFile, Lengths
from planner.asking.jobfile.marks import ANEW, MARK
from planner.asking.request import Request, RequestError
from planner.choice.goals import GOALS
from planner.cli import run_plan
from planner.edges import Edges
from planner.plan import Plan, Provider, SearchResult
from planner.report.anew import TAKE_OFF
from planner.saved import read_plan
from planner.search.market.offers import on_sale
from planner.view import View
from remote.contract import CAPABILITIES
from tests.contracts import SCHEMAS
from tests.planner.builders import TODAY, counted, parsed

AWS = {"aws": Provider(name="aws", runnable=True, status="emulator")}


def plan(*words: str, folder: Path, width: int = 240) -> tuple[int, str]:
    """Exit code and text of `plan` on the shipped catalog, with one provider that can be rented from."""
    written: list[str] = []
    edges = Edges(providers=AWS, capabilities=CAPABILITIES, today=TODAY, versions={"rentune": "test"}, folder=folder)
    code = run_plan(
        parsed(*words),
        edges,
        View(written.append, width, False),
        measure=counted,
        market_for=lambda _request: on_sale(read_catalog(), edges),
        enclose=lambda result, _command: msgspec.json.encode(result).decode(),
        draw=lambda result, every, command, _spelled: f"{len(result.plans)} of {len(every.plans)} plans, {command}",
    )
    return code, "\n".join(written)


def test_32b_on_16_gb_is_answered_as_it_is(tmp_path: Path) -> None:
    """No single card of 16 GB holds it, and one can stream it: that is recommended, with the way out beside it."""
    code, text = plan("--model", "32b", "--gpu-budget", "16GB", folder=tmp_path)
    assert code == 0
    assert text.startswith("Default job: 32b (Qwen2.5-32B), 1,000 examples × 512 tokens × 3 epochs")
    assert "none of them can be run by this version" not in text
    assert "streamed from RAM" in text
    assert "with 24 GiB on the GPU instead of 16" in " ".join(text.split())
    last = text.splitlines()[-1]
    assert last.startswith("  rentune run --model Qwen/Qwen2.5-32B --gpu-budget 16GB --data YOUR_DATA.jsonl")


def test_where_a_seller_is_named_that_only_its_user_rents_from_the_command_for_his_machine_is_printed(tmp_path: Path) -> None:
    """Without what was said of the market: a machine that is named is not chosen."""
    code, text = plan("--model", "7b", "--provider", "hyperstack", folder=tmp_path)
    assert code == 0
    assert "per million tokens on hyperstack" in text.splitlines()[0]
    (line,) = [each for each in text.splitlines() if each.startswith("Rent hyperstack")]
    (price,) = re.findall(r"\$([0-9.]+)/h", line)
    command = "rentune run --model Qwen/Qwen2.5-7B --data YOUR_DATA.jsonl --host user@address"
    assert f"  {command} --assume-price {price}" in text.splitlines()
    assert "--provider" in text.splitlines()[-1]  # the way out stands below


def test_what_cards_of_ones_own_hold_ends_with_the_commands_on_them(tmp_path: Path) -> None:
    """On this machine, or by its address; where they hold nothing that can be run there is none."""
    _, text = plan("--model", "7b", "--gpus", "1x24GB", folder=tmp_path)
    commands = [line.split(" --data ")[1] for line in text.splitlines() if line.startswith("  rentune run")]
    assert commands[:2] == ["YOUR_DATA.jsonl --gpu here", "YOUR_DATA.jsonl --host user@address"]
    _, text = plan(
        "--model", "70b", "--seq-len", "8192", "--examples", "1000", "--tokens", "8192", "--gpus", "8GB", folder=tmp_path
    )
    assert "--gpu here" not in text


def test_a_card_of_ones_own_elsewhere_is_a_row_at_the_price_of_its_electricity(tmp_path: Path) -> None:
    """Billed by the second for all that it may draw and 100 W beside it, with no boot to wait for; never recommended, for
    nobody said where it is.
    """
    answer = plan("--model", "7b", "--gpus", "RTX 4090", "--power-price", "0.30", "--ram", "32GB", "--json", folder=tmp_path)[1]
    result = msgspec.json.decode(answer, type=SearchResult)
    (own,) = [each for each in result.plans if each.offer.provider == "host"]
    assert own.offer.usd_per_hour == Decimal("0.30") * (450 + 100) / 1000
    assert own.cost.total_usd.p50 == pytest.approx(float(own.offer.usd_per_hour) * own.duration.wall_s.p50 / 3600, rel=1e-2)
    assert own.duration.phase_s["create"].p50 < 1
    assert (own.why_not or "").startswith("yours: run it there with --gpu here")
    assert any("electricity at $0.30 per kWh" in each for each in own.assumptions)
    assert result.recommended is not None
    assert result.recommended is not own
    _, text = plan("--model", "7b", "--gpus", "RTX 4090", folder=tmp_path)
    assert "yours: run it there with --gpu here, or from another machine with --host" in text
    assert "your electricity is not counted; --power-price 0.30 counts it" in text
    assert "RAM unknown" in next(line for line in text.splitlines() if "your-1x-rtx-4090" in line)


def test_of_a_machine_of_ones_own_no_ram_is_assumed_and_what_says_it_is_named(tmp_path: Path) -> None:
    """What would wait there is planned once that is said."""
    asked = ("--model", "32b", "--gpus", "RTX 4080")
    _, text = plan(*asked, folder=tmp_path)
    assert "--ram says how much your machine has" in text
    _, text = plan(*asked, "--ram", "64GB", folder=tmp_path)
    assert "host your-1x-rtx-4080" in text
    assert "--ram says" not in text
    for alone in (("--model", "7b", "--ram", "32GB"), ("--model", "7b", "--gpus", "2x24GB", "--ram", "32GB")):
        with pytest.raises(RequestError, match="--ram is of the machine with your cards"):
            plan(*alone, folder=tmp_path)


def test_the_command_under_the_answer_plans_the_same_machine(tmp_path: Path) -> None:
    """What is printed leads to what was shown, way out or not."""
    for words in (("--model", "7b"), ("--model", "32b", "--gpu-budget", "16GB"), ("--model", "7b", "--max-cost", "0.01")):
        result = msgspec.json.decode(plan(*words, "--data", "rows.jsonl", "--json", folder=tmp_path)[1], type=SearchResult)
        central = result.recommended or result.ways_out[0].plan
        command = plan(*words, "--data", "rows.jsonl", folder=tmp_path)[1].splitlines()[-1]
        again = plan(*shlex.split(command)[2:], "--json", folder=tmp_path)[1]
        recommended = msgspec.json.decode(again, type=SearchResult).recommended
        assert recommended is not None
        assert (recommended.offer, recommended.strategy) == (central.offer, central.strategy)


@pytest.mark.parametrize(
    "wish",
    [
        "budget: {max_cost: 0.01}",
        "where: {gpu_budget: 4GB}",
        "where: {gpus: [MI300X]}",
        "where: {providers: [lambda], regions: [us-east-1]}",
    ],
)
def test_the_command_overrules_what_a_job_file_wishes(wish: str, tmp_path: Path) -> None:
    """A wish that stands in the file can't be left out on the command line, so the command says another."""
    (tmp_path / "job.yaml").write_text(f"model: 7b\ndata: {{file: rows.jsonl}}\n{wish}")
    (tmp_path / "rows.jsonl").touch()
    command = plan("job.yaml", folder=tmp_path)[1].splitlines()[-1]
    again = plan(*shlex.split(command)[2:], "--json", folder=tmp_path)[1]
    assert msgspec.json.decode(again, type=SearchResult).recommended is not None


def test_a_job_file_is_told_its_own_keys(tmp_path: Path) -> None:
    """As options are told options."""
    (tmp_path / "job.yaml").write_text("model: 7b\nbudget: {max_cost: 0.01}\nwhere: {spot: false}")
    told, optional = plan("job.yaml", folder=tmp_path)[1], plan("--model", "7b", "--max-cost", "0.01", folder=tmp_path)[1]
    assert "budget.max_cost: " in told
    assert "(where.spot)" in told
    assert "--max-cost " in optional


def test_a_job_file_is_found_and_its_paths_start_from_where_it_lies(tmp_path: Path) -> None:
    """Wherever the command is called from."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/job.yaml").write_text(
        "model: base.gguf\ndata: {file: rows.jsonl, held_out: apart.jsonl, chat_template: t.jinja}"
    )
    (tmp_path / "jobs/base.gguf").touch()
    asked: list[DataFile] = []

    def measure(file: DataFile) -> Lengths:
        asked.append(file)
        return counted(file)

    request = read_asked(parsed("jobs/job.yaml"), folder=tmp_path, measure=measure)
    assert isinstance(request, Request)
    places = [str(tmp_path / "jobs" / name) for name in ("base.gguf", "rows.jsonl", "apart.jsonl")]
    assert [request.model, request.data.path, request.data.held_out_path] == places
    assert [(file.model, file.path) for file in asked] == [(places[0], path) for path in places[1:]]
    assert {file.reading.template_path for file in asked} == {str(tmp_path / "jobs/t.jinja")}
    other = read_asked(parsed("jobs/job.yaml", "--data", "rows.jsonl"), folder=tmp_path, measure=counted)
    assert isinstance(other, Request)
    assert other.data.path == str(tmp_path / "rows.jsonl")


def test_a_saved_plan_comes_back_as_it_was_unless_options_change_it(tmp_path: Path) -> None:
    """It is not planned anew behind the user's back."""
    code, text = plan("--model", "7b", "--data", "rows.jsonl", "--save", "plan.json", folder=tmp_path)
    assert (code, text.splitlines()[-1]) == (0, "Saved to plan.json. As it is saved: rentune run plan.json")
    saved = read_asked(parsed("plan.json"), folder=tmp_path, measure=counted)
    changed = read_asked(parsed("plan.json", "--rank", "8"), folder=tmp_path, measure=counted)
    assert isinstance(saved, Plan)
    assert saved == read_plan((tmp_path / "plan.json").read_text(), name="plan.json")
    assert isinstance(changed, Request)
    assert changed.training == {"rank": 8}
    assert plan("plan.json", folder=tmp_path)[1].splitlines()[-1] == "  rentune run plan.json"


def test_a_saved_plan_that_was_edited_is_checked_like_any_other_request(tmp_path: Path) -> None:
    """What no option may ask for, no file may either."""
    assert plan("--model", "7b", "--allow-from", "192.0.2.0/24", "--save", "plan.json", folder=tmp_path)[0] == 0
    saved = json.loads((tmp_path / "plan.json").read_text())
    del saved["seal"]  # as in plans of earlier versions
    (tmp_path / "plan.json").write_text(json.dumps(saved).replace("192.0.2.0/24", "0.0.0.0/0"))
    with pytest.raises(RequestError, match="would open SSH on the box"):
        read_asked(parsed("plan.json"), folder=tmp_path, measure=counted)


def test_plan_and_page_are_two_files(tmp_path: Path) -> None:
    """By whatever name or link; nothing is written before that is seen."""
    (tmp_path / "page.html").symlink_to(tmp_path / "plan.json")
    for saved, page in (("plan.html", "plan.html"), ("plan.json", "page.html"), ("plan.json", "./plan.json")):
        with pytest.raises(RequestError, match="both name"):
            plan("--model", "7b", "--save", saved, "--html", page, folder=tmp_path)
    assert not (tmp_path / "plan.json").exists()


def test_where_nothing_can_be_saved_it_is_said_what_leads_to_a_plan(tmp_path: Path) -> None:
    """Several machines are a row and no plan that `run` takes; what is typed as the hint says is saved."""
    job = "model: 70b\ntraining: {method: METHOD, offload: none}\nwhere: {gpus: [H100 SXM5]}\n"
    (tmp_path / "job.yaml").write_text(job.replace("METHOD", "full"))
    with pytest.raises(RequestError, match="no plan to save: several machines would do this job together") as refused:
        plan("job.yaml", "--save", "plan.json", folder=tmp_path)
    assert (refused.value.hint or "").startswith("training.method: qlora leads to one, with method qlora instead of full")
    (tmp_path / "job.yaml").write_text(job.replace("METHOD", "qlora"))
    assert "Saved to plan.json." in plan("job.yaml", "--save", "plan.json", folder=tmp_path)[1]
    with pytest.raises(RequestError, match=r"^there is no plan to save$") as dear:
        plan("--model", "7b", "--max-cost", "0.001", "--save", "other.json", folder=tmp_path)
    typed = (dear.value.hint or "").partition(" leads to one, for up to $")[0].split()
    assert "Saved to" in plan("--model", "7b", *typed, "--save", "other.json", folder=tmp_path)[1]


def test_what_is_saved_from_a_size_names_weights(tmp_path: Path) -> None:
    """`run` trains no shape. What the registry does not know stays as it was said."""
    (tmp_path / "base.gguf").touch()
    for name in ("plan.json", "job.yaml"):
        plan("--model", "7B", "--top", "1", "--save", name, folder=tmp_path)
        saved = read_asked(parsed(name), folder=tmp_path, measure=counted)
        assert (saved.request if isinstance(saved, Plan) else saved).model == "Qwen/Qwen2.5-7B"
    assert plan("plan.json", folder=tmp_path)[1].splitlines()[-1] == "  rentune run plan.json --data YOUR_DATA.jsonl"


def test_an_earlier_adapter_is_found_beside_its_job_file(tmp_path: Path) -> None:
    """Wherever the command is called from; options are held against it, too."""
    folder = tmp_path / "jobs/earlier"
    folder.mkdir(parents=True)
    (tmp_path / "jobs/job.yaml").write_text("model: 7b\nloop: {init_adapter: earlier}")
    with pytest.raises(RequestError, match=r"init_adapter: adapter_config.json in .*earlier can't be read"):
        read_asked(parsed("jobs/job.yaml"), folder=tmp_path, measure=counted)
    (folder / "adapter_config.json").write_text('{"r": 4}')
    (folder / "adapter_model.safetensors").touch()
    request = read_asked(parsed("jobs/job.yaml"), folder=tmp_path, measure=counted)
    assert isinstance(request, Request)
    assert (request.loop.init_adapter, request.training) == (str(folder), {"rank": 4})
    with pytest.raises(RequestError, match="has rank 4, not 8"):
        read_asked(parsed("jobs/job.yaml", "--rank", "8"), folder=tmp_path, measure=counted)


def test_a_plan_can_be_saved_as_a_job_file(tmp_path: Path) -> None:
    """The next plan of it is the same one."""
    code, text = plan("--model", "7b", "--save", "job.yaml", folder=tmp_path)
    assert (code, text.splitlines()[-1]) == (0, "Saved to job.yaml.")
    answers = [plan(*words, "--json", folder=tmp_path)[1] for words in (("--model", "7b"), ("job.yaml",))]
    first, again = (msgspec.json.decode(answer, type=SearchResult).recommended for answer in answers)
    assert first is not None
    assert again is not None
    assert (again.offer, again.strategy, again.cost) == (first.offer, first.strategy, first.cost)


def test_a_use_case_is_advised_of_and_said_where_it_is_shown_and_saved(tmp_path: Path) -> None:
    """One line above the plans; reasons and sources with --explain and in the saved job file, which plans the same again."""
    said = ("--model", "7b", "--use-case", "code", "--examples", "5000")
    code, text = plan(*said, "--explain", "--save", "job.yaml", folder=tmp_path)
    assert code == 0
    assert text.splitlines()[1].startswith("Advised for code: method lora, target_modules all-linear, rank 64, alpha 128")
    assert "rank = 64: what code asks of a base is far from low rank" in text
    saved = (tmp_path / "job.yaml").read_text()
    assert "  use_case: code  #" in saved
    assert "rank: 64  # what code asks of a base is far from low rank" in saved
    assert "lora r64" in plan("job.yaml", folder=tmp_path)[1]


@pytest.mark.parametrize(
    "words",
    [
        ("--model", "7b"),
        ("--model", "32b", "--gpu-budget", "16GB"),
        ("--model", "32b", "--gpus", "4x24GB"),
        ("--model", "7b", "--max-cost", "0.01"),
        ("--model", "1b", "--gpu", "T4", "--top", "1000"),
    ],
)
def test_what_json_prints_fits_the_schema_that_is_committed(words: tuple[str, ...], tmp_path: Path) -> None:
    """Other programs may rely on it: with the places of the best and of what nothing beats."""
    schema = msgspec.json.decode((SCHEMAS / "plan-answer.schema.json").read_bytes())
    answer = msgspec.json.decode(plan(*words, "--json", "--explain", folder=tmp_path)[1])
    jsonschema.validate(answer, schema)
    plans = answer["plans"]
    assert {*answer["pareto"], *answer["best_of"].values()} <= set(range(len(plans)))
    assert bool(answer["best_of"]) is any(each["runnable"] is None for each in plans)


def test_what_nothing_beats_is_the_same_however_few_plans_are_asked_for(tmp_path: Path) -> None:
    """And the same that the page draws: in JSON it stands among the plans, which --top does not cut then."""

    def front(top: str) -> list[tuple[str, Any]]:
        result = msgspec.json.decode(
            plan("--model", "1b", "--top", top, "--json", "--explain", folder=tmp_path)[1], type=SearchResult
        )
        assert all(each.request == result.request for each in result.plans)
        figures = [(each.cost.held_usd.p50, each.duration.wall_s.p50) for each in result.plans]
        assert figures == sorted(figures)
        return [result.plans[place].name for place in result.pareto]

    assert front("1") == front("1000")
    assert len(front("1")) > len(GOALS)


def test_the_page_gets_every_plan_and_the_command(tmp_path: Path) -> None:
    """The answer itself keeps to --top; a place that can't be written to is told."""
    code, text = plan("--model", "1b", "--gpu", "T4", "--top", "1", "--html", "plan.html", folder=tmp_path)
    assert (code, text.splitlines()[-1]) == (0, "Drawn in plan.html.")
    few, of, many, *rest = (tmp_path / "plan.html").read_text().split()
    assert (int(few) < int(many), of, rest[1:3]) == (True, "of", ["rentune", "run"])
    for name, words in (("plan.svg", "does not end in .html"), ("nowhere/plan.html", "can't be written")):
        with pytest.raises(RequestError, match=words):
            plan("--model", "1b", "--html", name, folder=tmp_path)


def test_json_is_the_whole_answer(tmp_path: Path) -> None:
    """Equal to what was shown, for other programs."""
    code, text = plan("--model", "7b", "--json", folder=tmp_path)
    result = msgspec.json.decode(text, type=SearchResult)
    assert code == 0
    assert result.considered is not None
    assert result.considered.num_offers_sold >= 300
    assert result.recommended is not None


def test_what_the_method_does_not_read_is_named(tmp_path: Path) -> None:
    """In the table, in JSON, and again by the saved plan; alpha is read by a plan of LoRA, so nothing is said of it."""
    words = ("--model", "1.5b", "--method", "full", "--rank", "8", "--dropout", "0.1", "--top", "1")
    text = plan(*words, "--save", "plan.json", folder=tmp_path)[1]
    notes = [line for line in text.splitlines() if line.startswith("Note: ")]
    assert [note.split()[1] for note in notes] == ["rank", "dropout"]
    result = msgspec.json.decode(plan(*words, "--json", folder=tmp_path)[1], type=SearchResult)
    assert [f"Note: {warning}." for warning in result.warnings] == notes
    assert notes[0] in plan("plan.json", folder=tmp_path)[1]
    assert "no effect" not in plan("--model", "1b", "--alpha", "8", "--top", "1", folder=tmp_path)[1]


def test_no_plan_at_all_is_exit_code_two(tmp_path: Path) -> None:
    """With every reason on the page."""
    code, text = plan("--model", "70b", "--method", "full", "--gpu", "T4", "--num-gpus", "1", folder=tmp_path)
    assert code == 2
    assert "Nothing on offer does this job as asked." in text


def test_a_card_that_nobody_offers_may_be_one_s_own(tmp_path: Path) -> None:
    """Where the card is offered and the job does not fit it, nothing is said of another way to it."""
    said = " ".join(plan("--model", "7b", "--gpu", "RTX 4060 Ti 16GB", "--provider", "aws", folder=tmp_path)[1].split())
    assert "--gpu here on its machine, or --host user@address" in said
    assert "rentune catalog import FILE.csv" in said
    assert "--gpu here" not in plan("--model", "70b", "--method", "full", "--gpu", "T4", "--num-gpus", "1", folder=tmp_path)[1]


def test_a_saved_plan_of_another_card_names_the_lines_that_hold_it_to_its_machine(tmp_path: Path) -> None:
    """Its instance type went on holding, and the answer spoke of a card that nobody offers. What it names leads to a plan."""
    plan("--model", "7b", "--gpu", "RTX 4090", "--save", "job.yaml", folder=tmp_path)
    job = tmp_path / "job.yaml"
    job.write_text(job.read_text().replace('gpus: ["RTX 4090"]', 'gpus: ["RTX 5090"]'))
    said = " ".join(plan("job.yaml", folder=tmp_path)[1].split())
    assert f"Note: {ANEW}; instance_types, num_gpus, providers, regions, spot under where: are such lines" in said
    assert "An option for what is to be another (--gpu 'RTX 5090') does that, too." in said
    assert "--gpu here" not in said, "the card is on offer, and those lines are the cause"
    assert plan("job.yaml", "--gpu", "RTX 5090", folder=tmp_path)[0] == 0


def test_labels_that_the_task_does_not_read_are_told_and_learned_by_another(tmp_path: Path) -> None:
    """A job file's task is replaced before its data is counted."""

    def labelled(file: DataFile) -> Lengths:
        read = file.reading.format == "classification"
        return msgspec.structs.replace(
            counted(file), unread_labels=0 if read else 1_000, classes=(("neg", 500, 1), ("pos", 500, 2)) if read else ()
        )

    (tmp_path / "job.yaml").write_text("model: 7b\ndata: {file: rows.csv}\npurpose: {use_case: classification}\n")
    for words in ({"job": "job.yaml"}, parsed("--model", "7b", "--data", "rows.csv", "--use-case", "classification")):
        with pytest.raises(RequestError, match="1,000 rows have a label beside their text") as refused:
            read_asked(words, folder=tmp_path, measure=labelled)
        assert "--task classification" in (refused.value.hint or "")
        asked = read_asked({**words, "task": "classification"}, folder=tmp_path, measure=labelled)
        assert isinstance(asked, Request)
        assert (asked.task, asked.data.reading.format, asked.data.unread_labels) == ("classification", "classification", 0)


def test_plans_of_which_none_can_be_run_and_no_way_out_are_exit_code_two(tmp_path: Path) -> None:
    """Prices alone help nobody; with a way out that can be run the answer ends with its command."""
    saved = ("--model", "7b", "--provider", "hyperstack", "--save", "plan.json")
    assert plan(*saved, folder=tmp_path)[0] == 0
    code, text = plan("plan.json", folder=tmp_path)
    assert (code, "rentune run" in text) == (2, False)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("none.yaml",), "none.yaml can't be read: No such file"),
        (("--model", "7b", "--save", "plan.txt"), "plan.txt ends neither in .json nor in .yaml"),
        (("--model", "7b", "--save", "nowhere/plan.json"), "nowhere/plan.json can't be written"),
        (("broken.json",), "broken.json is not a plan"),
        (("binary.yaml",), "binary.yaml is not UTF-8 text"),
        (("tickets.jsonl",), r"^tickets.jsonl is no job file"),
    ],
)
def test_files_that_are_not_what_they_should_be(words: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    """One sentence, naming the file as it was typed."""
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\x00")
    with pytest.raises(RequestError, match=sentence):
        plan(*words, folder=tmp_path)


def test_data_that_cannot_be_used_is_told_where_the_job_file_names_it(tmp_path: Path) -> None:
    def refuse(file: DataFile) -> Lengths:
        raise RequestError(f"{file.path}, line 2: not JSON", hint="mend it")

    (tmp_path / "job.yaml").write_text("model: 7b\ndata: {file: rows.jsonl}")
    with pytest.raises(RequestError, match=r"^job.yaml:2:8: .*rows.jsonl, line 2: not JSON") as refused:
        read_asked(parsed("job.yaml"), folder=tmp_path, measure=refuse)
    assert refused.value.hint == "mend it"


# An option -> a line of a job file that is wrong alone, under the same key
REPLACED = {
    ("--rank", "8"): "training: {rank: -1}",
    ("--method", "lora"): "training: {method: lorra}",
    ("--target-modules", "q_proj,v_proj"): "training: {target_modules: [q_prj]}",
    ("--seq-len", "512"): "training: {seq_len: 512k}",
    ("--global-batch-size", "16"): "training: {global_batch_size: many}",
    ("--epochs", "2"): "loop: {epochs: 1e400}",
    ("--use-case", "chat"): "purpose: {use_case: chatting}",
    ("--gpu", "L4"): "where: {gpus: A100}",
    ("--gpu-budget", "24GB"): "where: {gpu_budget: lots}",
    ("--num-gpus", "1"): "where: {num_gpus: 0}",
    ("--provider", "aws"): "where: {providers: [amazn]}",
    ("--region", "us-*"): "where: {regions: [us-esat-1]}",
    ("--spot",): "where: {spot: yes}",
    ("--allow-from", "192.0.2.7/32"): "where: {allow_from: [0.0.0.0/0]}",
    ("--max-cost", "50"): "budget: {max_cost: 5 dollars}",
    ("--max-hours", "9"): "budget: {max_hours: 2h}",
    ("--goal", "fastest"): "budget: {goal: fast}",
    ("--tag", "team=search"): "tags: {team: 5}",
    ("--examples", "700"): "data: {examples: 1e400}",
    ("--data", "rows.jsonl"): "data: {file: 5, format: jsonl}",
    ("--revision", "main"): "revision: 5",
    ("--keep-volume", "models"): "keep: {volume_name: A B}",
    ("--no-keep-environment",): "keep: {environment: maybe}",
}


@pytest.mark.parametrize(("words", "line"), REPLACED.items(), ids=" ".join)
def test_what_an_option_replaces_is_not_judged(words: tuple[str, ...], line: str, tmp_path: Path) -> None:
    """The same answer as where the key does not stand in the file at all; without the option it is refused, with its place."""
    (tmp_path / "wrong.yaml").write_text(f"model: SmolLM2-135M\n{line}\n")
    (tmp_path / "without.yaml").write_text("model: SmolLM2-135M\n")
    with pytest.raises(Failure, match=r"wrong\.yaml:2:\d+: "):
        plan("wrong.yaml", folder=tmp_path)
    asked = [read_asked(parsed(name, *words), folder=tmp_path, measure=counted) for name in ("wrong.yaml", "without.yaml")]
    assert asked[0] == asked[1]


def test_another_model_than_the_files_is_not_judged_by_it(tmp_path: Path) -> None:
    """Nor is what an option says told as if it stood in the file."""
    (tmp_path / "job.yaml").write_text("model: 5\ntraining: {rank: 8}\n")
    assert isinstance(read_asked(parsed("job.yaml", "--model", "7b"), folder=tmp_path, measure=counted), Request)
    with pytest.raises(Failure) as unknown:
        plan("job.yaml", "--model", "modle-7b", folder=tmp_path)
    assert unknown.value.message.startswith("no model modle-7b")
    with pytest.raises(RequestError, match=r"^no offer has the region us-esat-1$"):
        plan("job.yaml", "--model", "7b", "--region", "us-esat-1", folder=tmp_path)


def test_a_saved_job_is_planned_anew_at_another_provider(tmp_path: Path) -> None:
    """By an option as if it had never been planned; by hand the lines that hold it are named."""
    plan("--model", "SmolLM2-135M", "--provider", "aws", "--save", "job.yaml", folder=tmp_path)
    redirected = plan("job.yaml", "--provider", "gcp", "--json", folder=tmp_path)[1]
    asked = plan("--model", "HuggingFaceTB/SmolLM2-135M", "--provider", "gcp", "--json", folder=tmp_path)[1]
    one, other = (msgspec.json.decode(text, type=SearchResult).plans[0] for text in (redirected, asked))
    assert one.name == other.name
    job = tmp_path / "job.yaml"
    job.write_text(job.read_text().replace("providers: [aws]", "providers: [gcp]"))
    assert f"Note: {ANEW}" in plan("job.yaml", folder=tmp_path)[1]
    job.write_text(re.sub(r"instance_types: \[[^]]*\]", "instance_types: [this-machine]", job.read_text()))
    with pytest.raises(Failure, match="no offer has the instance type this-machine") as caught:
        plan("job.yaml", folder=tmp_path)
    assert caught.value.hint == ANEW


def test_a_file_that_says_something_else_is_not_written_over(tmp_path: Path) -> None:
    """Unless that is asked for; the same file may be saved again."""
    saved = tmp_path / "job.yaml"
    plan("--model", "7b", "--save", "job.yaml", folder=tmp_path)
    written = saved.read_bytes()
    plan("--model", "7b", "--save", "job.yaml", folder=tmp_path)
    with pytest.raises(RequestError, match=r"job\.yaml is there already, and says something else") as refused:
        plan("--model", "7b", "--rank", "8", "--save", "job.yaml", folder=tmp_path)
    assert "--force" in (refused.value.hint or "")
    assert saved.read_bytes() == written
    assert "Saved to job.yaml." in plan("--model", "7b", "--rank", "8", "--save", "job.yaml", "--force", folder=tmp_path)[1]
    assert b"rank: 8" in saved.read_bytes()


@pytest.mark.parametrize(
    "words", [("--model", "7b"), ("--model", "32b", "--gpu-budget", "16GB"), ("--model", "70b", "--gpu-budget", "80GB")]
)
def test_at_100_columns_a_plan_takes_two_lines_of_its_table(words: tuple[str, ...], tmp_path: Path) -> None:
    """So wide is what goes into a pipe. What a group's heading says is said there alone."""
    lines = plan(*words, folder=tmp_path, width=100)[1].splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("─")) + 1
    end = next(number for number, line in enumerate(lines) if line.startswith("How they train"))
    rows = [line for line in lines[begin:end] if not line.endswith(":")]
    firsts = [number for number, line in enumerate(rows) if re.match(r"(→ |  )? ?\d+  \S", line)]
    assert len(firsts) >= 5
    assert max(after - before for before, after in zip(firsts, [*firsts[1:], len(rows)], strict=True)) <= 2
    assert not [line for line in rows if "not yet" in line or "price only" in line]


def test_a_saved_job_and_its_data_may_be_moved_together(tmp_path: Path) -> None:
    """What lies below the file is named from there, anything else in full; how many rows are held out by default is marked."""
    (tmp_path / "jobs").mkdir()
    words = ("--model", "7b", "--data", "rows.jsonl", "--provider", "aws", "--top", "1")
    assert plan(*words, "--save", "job.yaml", folder=tmp_path)[0] == 0
    assert plan(*words, "--save", "jobs/job.yaml", folder=tmp_path)[0] == 0
    text, below = (tmp_path / "job.yaml").read_text(), (tmp_path / "jobs/job.yaml").read_text()
    assert "\n  file: rows.jsonl  #" in text
    assert f"\n  file: {tmp_path}/rows.jsonl  #" in below
    (held_out,) = (line for line in text.splitlines() if "held_out_rows" in line)
    assert held_out.endswith(MARK)
    (tmp_path / "moved").mkdir()
    (tmp_path / "job.yaml").rename(tmp_path / "moved/job.yaml")
    asked = read_asked(parsed("moved/job.yaml"), folder=tmp_path, measure=counted)
    assert isinstance(asked, Request)
    assert asked.data.path == str(tmp_path / "moved/rows.jsonl")


def test_which_bases_a_card_trains_is_answered_with_the_command_that_plans_the_first(tmp_path: Path) -> None:
    """The command is the same question with that base in it."""
    code, text = plan("--gpu", "T4", "--which-model", "--examples", "500", folder=tmp_path)
    assert code == 0
    assert text.startswith("Job: 500 examples × 512 tokens × 3 epochs\n")
    command = shlex.split(text.splitlines()[-1])
    assert command[:3] == ["rentune", "plan", "--model"]
    assert command[3] in text.split("whole job")[1].split()
    assert command[4:] == ["--examples", "500", "--gpu", "T4"]


def test_which_bases_a_card_trains_is_json_by_a_committed_schema(tmp_path: Path) -> None:
    """Each with its whole plan."""
    answer = msgspec.json.decode(plan("--gpu", "T4", "--which-model", "--json", folder=tmp_path)[1])
    jsonschema.validate(answer, msgspec.json.decode((SCHEMAS / "bases-answer.schema.json").read_bytes()))
    assert {base["plan"]["gpu"]["name"] for base in answer["bases"]} == {"T4"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--gpu", "T4", "--model", "7b"), "--which-model looks for the base, and --model is about one that is named"),
        (("job.yaml",), "--which-model looks for the base, and a job file is about one that is named"),
        (("--gpu", "T4", "--save", "plan.json"), "--which-model looks for the base, and --save is about one that is named"),
        ((), "--which-model needs to know the card"),
    ],
)
def test_a_question_for_bases_names_none_and_some_card(words: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    """Before anything is read."""
    with pytest.raises(RequestError, match=re.escape(sentence)):
        plan(*words, "--which-model", folder=tmp_path)


def test_a_marked_line_that_was_changed_is_told_where_it_is_chosen_anew(tmp_path: Path) -> None:
    """It was in silence; where nothing comes out otherwise nothing is said."""
    plan("--model", "SmolLM2-135M", "--provider", "aws", "--save", "job.yaml", folder=tmp_path)
    job = tmp_path / "job.yaml"
    assert "marks lines" not in plan("job.yaml", "--provider", "aws", folder=tmp_path)[1]
    job.write_text(re.sub(r"rank: \d+ ", "rank: 64 ", job.read_text()))
    told = " ".join(plan("job.yaml", "--provider", "aws", folder=tmp_path)[1].split())
    assert "Note: job.yaml marks lines as the planner's choice, and they were chosen anew: rank " in told
    assert "(there 64)" in told
    assert TAKE_OFF in told
    assert "(there 64)" not in plan("job.yaml", "--provider", "aws", "--rank", "8", folder=tmp_path)[1]
    assert "marks lines" not in plan("job.yaml", folder=tmp_path)[1]
