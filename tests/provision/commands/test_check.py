"""`rentune check`: a data file or a job file, looked through before anybody pays."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from planner.saved import write_plan
from provision.cli import call
from provision.commands.check.rows import BROKEN_HINT, OTHER_ROWS, ROWS
from provision.errors import Exit
from provision.prepare.inputs import counting
from remote.data.check import Lines
from tests.provision.plans import tiny_files, tiny_plan

DATA = "data: {file: rows.jsonl}\n"
HERE = "where: {providers: [local]}\n"
TINY = {"model_type": "llama", "vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
SMOL = "model: HuggingFaceTB/SmolLM2-135M\n"


def checked(job: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a look at this job, which lies beside its data and a small bare configuration."""
    (folder / "rows.jsonl").write_text('{"text": "a row of some words"}\n' * 40)
    (folder / "config.json").write_text(json.dumps(TINY | {"num_attention_heads": 4, "max_position_embeddings": 512}))
    (folder / "job.yaml").write_text(job)
    monkeypatch.chdir(folder)
    return call(["check", "job.yaml"])


@pytest.mark.parametrize("model", ["HuggingFaceTB/SmolLM2-135M", "config.json"])
def test_a_job_that_run_takes_passes(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bare configuration, too: it is trained from random weights, as a rehearsal."""
    assert checked(f"model: {model}\n{DATA}{HERE}", tmp_path, monkeypatch) == Exit.OK
    told = capsys.readouterr()
    assert told.out.startswith("job.yaml can be run: 32 examples")
    epoch = r"Note: on \S+ a pass over the data is \d+ steps?, [\d.]+ \w+, (free|<?\$[\d.]+); the whole job "
    assert re.search(epoch, " ".join(told.out.split()))
    assert "Error" not in told.err


@pytest.mark.parametrize(
    ("job", "sentences"),
    [
        ("model: 13b\n", ["13b is a shape without weights", "There is no data to train on."]),
        (f"model: nosuchmodel\n{DATA}{HERE}", ["no model nosuchmodel in the registry"]),
        (f'model: "a\\0b"\n{DATA}{HERE}', ["no model a\\x00b in the registry"]),
        (f"model: config.json\ntraining: {{seq_len: 100000}}\n{DATA}{HERE}", ["reads at most 512 tokens, not 100,000"]),
        (f"model: config.json\nloop: {{layers: [0, 5]}}\n{DATA}{HERE}", ["layers names block 5, and "]),
        (f"{SMOL}budget: {{max_cost: 0}}\n{DATA}where: {{providers: [aws]}}\n", ["No plan can be run as asked"]),
        (f"{SMOL}{DATA}where: {{host: '-oProxyCommand=id'}}\n", ["'-oProxyCommand=id' is not an address."]),
        (
            "model: config.json\ntraining: {seq_len: 100000}\nloop: {layers: [5]}\nwhere: {host: '-o', gpus: [RTX9999]}\n",
            [
                "There is no data to train on.",
                "'-o' is not an address.",
                'no GPU "RTX9999" in the catalog',
                "layers names block 5, and ",
                "reads at most 512 tokens, not 100,000",
            ],
        ),
        (
            "model: nosuchmodel\ndata: {file: nowhere.jsonl}\nkeep: {adapter: job.yaml/x}\n",
            ["job.yaml:2:", "no model nosuchmodel in the registry", "The adapter can't be kept in"],
        ),
    ],
)
def test_what_plan_and_run_refuse_of_a_job_is_refused_by_a_look_at_it(
    job: str, sentences: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In their words, and all of it at once where they stop at the first."""
    assert checked(job, tmp_path, monkeypatch) == Exit.REFUSED
    told = capsys.readouterr()
    assert told.out.startswith("job.yaml can't be run as it is.")
    for sentence in sentences:
        assert sentence in told.err
    assert call(["check", "job.yaml", "--json"]) == Exit.REFUSED
    assert len(json.loads(capsys.readouterr().out)["errors"]) == len(sentences)


def test_a_limit_that_an_assumed_price_breaks_is_told_with_what_would_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`plan` knows no such price, and would show a plan that costs nothing."""
    assert checked(f"{SMOL}{DATA}{HERE}", tmp_path, monkeypatch) == Exit.OK
    words = ["run", "job.yaml", "--yes", "--assume-price", "5", "--max-cost"]
    assert call([*words, "0"]) == Exit.REFUSED
    told = capsys.readouterr().err
    assert "No plan can be run as asked: at $5 an hour it is over $0 at p90" in told
    assert re.search(r"Hint: --max-cost \d+\.\d\d\n", told)


def test_a_saved_plan_is_looked_at_as_the_job_that_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was read as data, of which no row can be used; rows that lie in a JSON file are still data."""
    (tmp_path / "plan.json").write_text(write_plan(tiny_plan(*tiny_files(tmp_path))))
    monkeypatch.chdir(tmp_path)
    assert call(["check", "plan.json"]) == Exit.OK
    assert capsys.readouterr().out.startswith("plan.json can be run")
    (tmp_path / "rows.json").write_text('{"text": "a row of some words"}\n' * 40)
    assert call(["check", str(tmp_path / "rows.json"), "--json"]) == json.loads(capsys.readouterr().out)["exit_code"]


@pytest.mark.parametrize(
    ("said", "instead", "sentence"),
    [
        ('"revision": null', '"revision": "main"', "plan.json was changed after it was saved"),
        ('"offer"', '"ofer"', "was changed"),
    ],
)
def test_a_saved_plan_that_was_changed_is_told_as_one_and_not_read_as_rows(
    said: str, instead: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = write_plan(tiny_plan(*tiny_files(tmp_path)))
    assert said in saved
    (tmp_path / "plan.json").write_text(saved.replace(said, instead, 1))
    monkeypatch.chdir(tmp_path)
    assert call(["check", "plan.json"]) == Exit.REFUSED
    assert sentence in " ".join(capsys.readouterr().err.split())


def test_a_base_without_weights_is_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It can be trained, to rehearse; nobody is to pay for it unawares."""
    assert checked(f"model: config.json\n{DATA}{HERE}", tmp_path, monkeypatch) == Exit.OK
    assert "has no weights: random ones are trained; unless that is all of them, it is a rehearsal" in " ".join(
        capsys.readouterr().out.split()
    )


def test_what_is_not_ready_here_is_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The job itself can be run; `run` would refuse it on this machine, where a cloud's plugin was never fetched. A job is
    judged alike on every machine, so the code stays 0, and programs read `lacking_here`.
    """
    assert checked(f"{SMOL}{DATA}where: {{providers: [aws]}}\n", tmp_path, monkeypatch) == Exit.OK
    told = " ".join(capsys.readouterr().out.split())
    assert told.startswith("job.yaml can be run: ")
    assert "Note: the job is sound, yet `run` would stop here: aws is not ready here: " in told
    assert "rentune doctor" in told
    assert call(["check", "job.yaml", "--json"]) == Exit.OK
    envelope = json.loads(capsys.readouterr().out)
    assert envelope["errors"] == []
    (lacking,) = envelope["data"]["lacking_here"]
    assert lacking.startswith("aws is not ready here: ")


def test_every_mistake_of_a_job_is_told_in_one_go_by_line_and_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong by itself, what has no file, and names that nothing on sale has; no search is made of what is left."""
    job = (
        "model: HuggingFaceTB/SmolLM2-135M\ntraining:\n  rank: -3\n  method: lorra\n  bogus: 1\n"
        "loop: {epochs: 0}\ndata: {file: none.jsonl}\nwhere: {gpus: [H100X], providers: [awss]}\n"
    )
    assert checked(job, tmp_path, monkeypatch) == Exit.REFUSED
    told = capsys.readouterr()
    assert told.out.strip() == "job.yaml can't be run as it is."
    places = re.findall(r"^Error: job\.yaml:(\d+:\d+): ", told.err, re.MULTILINE)
    assert places == ["3:3", "4:3", "5:3", "6:8", "7:8", "8:16", "8:36"]
    assert len(re.findall("^Error: ", told.err, re.MULTILINE)) == len(places)


CHATS = [{"prompt": "q" * 20, "completion": "a" * 20}] * 9 + [{"prompt": "q" * 600, "completion": "a"}]


@pytest.mark.parametrize(
    ("seq_len", "told"),
    [
        ("training: {seq_len: 40}\n", "10 of 10 rows are longer than 40 tokens: 9 will be cut and 1 left out"),
        ("training: {seq_len: 64}\n", "1 of 10 rows is longer than 64 tokens and will be left out"),
        ("", "1 of 10 rows is longer than 512 tokens and will be left out"),
    ],
)
def test_what_a_cut_leaves_nothing_of_is_told_with_its_line_by_check_and_plan(
    seq_len: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the length that is said, else by what the model reads. The row's answer begins after it."""
    checked(f"model: config.json\n{DATA}{HERE}{seq_len}", tmp_path, monkeypatch)
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, CHATS)))
    capsys.readouterr()
    for words in (["check", "job.yaml"], ["plan", "job.yaml"]):
        assert call(words) == Exit.OK
        shown = " ".join(capsys.readouterr().out.split())
        assert told in shown
        assert "for nothing to learn is left of it (line 10)" in shown
    if not seq_len:
        assert call(["check", "rows.jsonl", "--model", "config.json"]) == Exit.OK
        assert told in " ".join(capsys.readouterr().out.split())


def test_a_folder_of_files_is_looked_at_as_one_and_each_row_told_with_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By `check` of the folder, of a pattern, and of a job that names them."""
    (tmp_path / "shelf").mkdir()
    for name in ("a", "b"):
        (tmp_path / "shelf" / f"{name}.jsonl").write_text(f'{{"text": "a row"}}\n\n{{"text": "{name}"}}\n')
    job = f"model: config.json\ndata: {{file: [shelf/a.jsonl, shelf/b.jsonl]}}\n{HERE}"
    assert checked(job, tmp_path, monkeypatch) == Exit.OK
    capsys.readouterr()
    for named in ("shelf", "shelf/*.jsonl"):
        assert call(["check", named, "--json"]) == Exit.OK
        answer = json.loads(capsys.readouterr().out)
        assert answer["data"]["rows"] == 4
        assert "b.jsonl:1 as a.jsonl:1" in " ".join(answer["data"]["notes"])


def test_what_of_text_files_is_a_document_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By `check` of the rows and of a job that names them."""
    (tmp_path / "shelf").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "shelf" / f"{name}.txt").write_text(f"Of {name}.\n\nThat is all of {name}.\n")
    job = f"model: config.json\ndata: {{file: shelf}}\n{HERE}"
    assert checked(job, tmp_path, monkeypatch) == Exit.OK
    assert "each text file is one document, 3 in all" in " ".join(capsys.readouterr().out.split())
    for named, words in (("shelf", "each text file is one document, 3 in all"), ("shelf/a.txt", "each of 2 lines of a.txt")):
        assert call(["check", named, "--json"]) == Exit.OK
        assert words in " ".join(json.loads(capsys.readouterr().out)["data"]["notes"])


def test_a_look_at_data_is_a_table_with_units(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rounded for people, whole in JSON; each row that can't be used by its line."""
    (tmp_path / "rows.jsonl").write_text('{"text": "ab"}\n{"text": "abcd"}\n{"text": "abcd"}\n{oops\n')
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    words = ["check", str(tmp_path / "rows.jsonl"), "--model", str(tmp_path / "config.json")]
    assert call(words) == Exit.REFUSED
    told = capsys.readouterr()
    text = " ".join(re.sub("[│┃]", " ", told.out).split())
    for part in (
        "rows.jsonl: text",
        "rows 3",
        "can't be used 1",
        "tokens of a row, mean 4.3",
        "<= 64 tokens 3",
    ):
        assert part in text
    assert ("rows.jsonl:4:2: not JSON" in told.err, "not JSON" in told.out) == (True, False)  # said once
    assert "Tokens are counted as bytes, for the model has no tokenizer" in text
    assert call([*words, "--json"]) == Exit.REFUSED
    assert json.loads(capsys.readouterr().out)["data"]["mean_tokens"] == pytest.approx(13 / 3)


def test_rows_none_of_which_can_be_used_are_listed_without_an_empty_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.jsonl").write_text("{oops\n[1]\n")
    assert call(["check", str(tmp_path / "rows.jsonl")]) == Exit.REFUSED
    told = capsys.readouterr()
    assert "Rows by length" not in told.out
    hint = BROKEN_HINT.format(rows=OTHER_ROWS)
    assert (told.out.count("rows.jsonl:"), told.err) == (3, f"Error: 2 rows can't be used\nHint: {hint}\n")
    assert call(["check", str(tmp_path / "rows.jsonl"), "--task", "classification"]) == Exit.REFUSED
    assert ROWS["classification"] in capsys.readouterr().err, "the rows that this task reads"


def test_a_data_file_that_the_trainer_refuses_is_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What ends a run on the box ends the look at home; with --json as an error's envelope."""
    (tmp_path / "data.parquet").write_bytes(b"PAR1")
    assert call(["check", str(tmp_path / "data.parquet"), "--json"]) == Exit.REFUSED
    envelope = json.loads(capsys.readouterr().out)
    assert (envelope["status"], envelope["exit_code"]) == ("error", 2)


def test_what_to_type_takes_a_files_name_as_a_shell_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A hint that is pasted runs the command that it shows, and no other."""
    job = tmp_path / "my job; date.yaml"
    job.write_text(DATA)
    assert call(["check", str(job), "--model", "x"]) == Exit.REFUSED
    assert f"Hint: rentune check '{job}'\n" in capsys.readouterr().err


def test_what_the_model_sees_is_shown_with_what_it_learns_in_brackets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a bare configuration in bytes; a control character of the file moves no cursor."""
    checked(f"model: config.json\n{DATA}{HERE}", tmp_path, monkeypatch)
    capsys.readouterr()
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "Go\x1b[2J?", "completion": "No."}) + "\n")
    assert call(["check", "rows.jsonl", "--model", "config.json"]) == Exit.OK
    told = capsys.readouterr().out
    assert "Line 1 as the model sees it: 12 tokens, of which it learns 4, in ⟦ ⟧" in told
    assert "⟦No.<|eos|>⟧" in told
    assert "\x1b[2J" not in told


def test_a_row_of_a_classification_is_shown_with_the_class_that_it_teaches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It said "of which it learns 0" of rows that teach their class."""
    checked(f"model: config.json\n{DATA}{HERE}", tmp_path, monkeypatch)
    capsys.readouterr()
    rows = [{"text": f"Go {number}.", "label": "ab"[number % 2]} for number in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert call(["check", "rows.jsonl", "--model", "config.json", "--task", "classification"]) == Exit.OK
    told = capsys.readouterr().out
    assert "tokens, and the class that it learns, in ⟦ ⟧" in told
    assert "learns 0" not in told


def test_rows_that_stand_twice_are_a_note_and_held_out_rows_that_are_learned_from_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "judged.jsonl").write_text('{"text": "never seen"}\n{"text": "a row of some words"}\n')
    held_out = "data: {file: rows.jsonl, held_out: judged.jsonl}\n"
    assert checked(f"model: config.json\n{held_out}{HERE}", tmp_path, monkeypatch) == Exit.OK
    assert "1 row is held out and learned from, too, so that its loss says little (line 2 as 1)" in plain(
        capsys.readouterr().out
    )
    assert call(["check", "rows.jsonl"]) == Exit.OK
    assert "39 rows are said word for word in an earlier one" in plain(capsys.readouterr().out)


def test_rows_that_teach_nothing_are_refused_by_their_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Found by whoever counts, by a chat template that leaves answers out."""
    checked(f"model: config.json\n{DATA}{HERE}", tmp_path, monkeypatch)
    capsys.readouterr()
    found = {"untaught": Lines(rows=7, first=(1, 2, 3, 4, 5)), "begin_twice": Lines(rows=1, first=(9,))}
    monkeypatch.setattr(
        "provision.commands.check.rows.look_through",
        lambda *asked, **how: msgspec.structs.replace(counting.look_through(*asked, **how), **found),
    )
    assert call(["check", "rows.jsonl"]) == Exit.REFUSED
    told = plain(capsys.readouterr().err)
    assert "7 of 40 rows teach nothing: no token of them carries loss (line 1, 2, 3, 4, 5, …)" in told
    assert "1 of 40 rows begin with two beginning-of-sequence tokens (line 9)" in told


def plain(text: str) -> str:
    """The words, however they are broken into lines."""
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("file", "words", "sentence"),
    [
        ("rows.jsonl", ["--host", "you@127.0.0.1:1"], "rows.jsonl holds rows, and --host plans a job file."),
        ("job.yaml", ["--host", "-oProxyCommand=id"], "'-oProxyCommand=id' is not an address."),
        ("job.yaml", ["--host", "you@127.0.0.1:1"], "127.0.0.1"),
        ("job.yaml", ["--host-key", "SHA256:x"], "--host-key is for a host of yours, and none is named."),
    ],
)
def test_a_host_that_no_job_can_be_planned_on_is_one_sentence(
    file: str,
    words: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Rows, no address, nobody who answers there, and a key of no host."""
    assert checked(f"model: config.json\n{DATA}{HERE}", tmp_path, monkeypatch) == Exit.OK
    capsys.readouterr()
    assert call(["check", file, *words]) == Exit.REFUSED
    told = capsys.readouterr().err
    assert sentence in " ".join(told.split())
    assert told.count("Error: ") == 1
