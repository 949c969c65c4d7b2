"""A data set by its name on the hub is fetched before anything is rented: from a server on loopback with the hub's API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from planner.asking.data import DataFile
from planner.asking.request import RequestError
from provision.cli import call
from provision.errors import Exit
from provision.prepare.inputs import _existing
from provision.prepare.inputs.counting import measured
from provision.prepare.inputs.data_sets import fetched
from provision.prepare.inputs.parts import brought
from tests.doubles.services.hub import Hub, served

ROWS = "".join(json.dumps({"prompt": f"What is {n}?", "completion": f"It is {n}."}) + "\n" for n in range(20)).encode()
SET, NAME = "datasets/owner/rows", "hub:owner/rows"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Of somebody without a token, whose cache is empty."""
    fetched.cache_clear()
    with served() as hub:
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("RENTUNE_CACHE", str(tmp_path / "cache"))
        yield hub
    fetched.cache_clear()


def test_a_data_set_becomes_a_folder_of_what_is_learned(hub: Hub) -> None:
    """Rows to judge by and what is no rows stay where they are."""
    hub.commit(SET, {"data/train.jsonl": ROWS, "data/test.jsonl": b"{}", "README.md": b"# rows", "dataset_infos.json": b"{}"})
    folder = Path(brought(NAME))
    assert folder.name == "rows"
    assert [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()] == ["data/train.jsonl"]
    assert (folder / "data/train.jsonl").read_bytes() == ROWS


def test_it_is_counted_and_sent_as_any_other(hub: Hub, tmp_path: Path) -> None:
    hub.commit(SET, {"rows.jsonl": ROWS})
    lengths = measured(DataFile(path=NAME, model="7b"), cache=tmp_path, say=lambda _line: None)
    assert lengths.num_rows == 20
    assert Path(_existing(NAME)).is_dir()


def test_each_commit_is_fetched_once(hub: Hub) -> None:
    hub.commit(SET, {"rows.jsonl": ROWS})
    first = brought(NAME)
    fetched.cache_clear()  # as in another command
    assert brought(NAME) == first
    assert sum("resolve" in asked for asked in hub.asked) == 1
    hub.commit(SET, {"rows.jsonl": ROWS * 2})
    fetched.cache_clear()
    assert (Path(brought(NAME)) / "rows.jsonl").read_bytes() == ROWS * 2
    assert (Path(first) / "rows.jsonl").read_bytes() == ROWS


def test_a_part_and_a_revision_may_be_named(hub: Hub) -> None:
    hub.commit(SET, {"en/train.jsonl": ROWS, "de/train.jsonl": b"{}\n"})
    hub.commit(SET, {"en/train.jsonl": ROWS * 2, "en/test.jsonl": b"{}\n"}, branch="v2")
    assert (Path(brought(f"{NAME}/en")) / "en/train.jsonl").read_bytes() == ROWS
    assert (Path(brought(f"{NAME}/en/train.jsonl@v2")) / "en/train.jsonl").read_bytes() == ROWS * 2
    assert (Path(brought(f"{NAME}/en/test.jsonl@v2")) / "en/test.jsonl").read_bytes() == b"{}\n"


@pytest.mark.parametrize(
    ("name", "files", "sentence", "hint"),
    [
        ("hub:owner/..", {}, "hub:owner/.. names no data set of the hub's", "write hub:OWNER/NAME"),
        ("hub:owner", {}, "hub:owner names no data set of the hub's", "write hub:OWNER/NAME"),
        ("hub:owner/none", {}, "no data set owner/none at main for you: it is not there", "HF_TOKEN="),
        (NAME, {"README.md": b"#"}, "owner/rows on the hub has no file of rows that is read here", ".jsonl"),
        (NAME, {"en/train.jsonl": ROWS, "de/train.jsonl": ROWS}, "holds several sets of rows", "hub:owner/rows/"),
        (NAME, {"a.jsonl": ROWS, "a.csv": b"a,b\n"}, "holds several sets of rows", "hub:owner/rows/"),
        (NAME, {"test.jsonl": ROWS, "dev.jsonl": ROWS}, "holds several sets of rows", "hub:owner/rows/"),
    ],
)
def test_what_can_not_be_had_is_told_in_one_sentence(
    hub: Hub, name: str, files: dict[str, bytes], sentence: str, hint: str
) -> None:
    hub.commit(SET, files)
    with pytest.raises(RequestError, match=sentence) as refused:
        brought(name)
    assert hint in str(refused.value.hint)


def test_what_came_otherwise_than_told_is_not_kept(hub: Hub, tmp_path: Path) -> None:
    hub.commit(SET, {"rows.parquet": b"as it was"})
    hub.altered["rows.parquet"] = b"as it is!"
    with pytest.raises(RequestError, match=r"rows\.parquet came otherwise than the hub says it is"):
        brought(NAME)
    assert not [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]


def test_without_the_hub_it_is_said_what_to_name(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(RequestError, match=r"owner/rows did not come from the hub: .*refused") as refused:
        brought(NAME)
    assert refused.value.hint == "try again, or name a file that is here"


def test_whoever_works_offline_asks_nobody(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.commit(SET, {"rows.jsonl": ROWS})
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(RequestError, match="did not come from the hub: HF_HUB_OFFLINE is set"):
        brought(NAME)
    assert hub.asked == []


def test_a_token_goes_to_the_hub_and_not_where_it_sends_us_on_to(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody")
    commit = hub.commit(SET, {"rows.parquet": b"rows"})
    with served("127.0.0.2") as other:
        other.commit(SET, {"rows.parquet": b"rows"})
        hub.sends_on_to = other.url
        assert (Path(brought(NAME)) / "rows.parquet").read_bytes() == b"rows"
    file = f"/{SET}/resolve/{commit}/rows.parquet"
    assert hub.told_tokens == [f"/api/{SET}/revision/main", file]
    assert (other.asked, other.told_tokens) == ([f"GET {file}"], [])


def test_check_and_a_job_file_take_it(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.commit(SET, {"rows.jsonl": ROWS})
    monkeypatch.chdir(tmp_path)
    assert call(["check", NAME]) == Exit.OK
    Path("job.yaml").write_text(f"model: HuggingFaceTB/SmolLM2-135M\ndata: {{file: {NAME}}}\nwhere: {{providers: [local]}}\n")
    assert call(["plan", "job.yaml", "--save", "saved.yaml"]) == Exit.OK
    assert f'file: "{NAME}"' in Path("saved.yaml").read_text().replace(f"file: {NAME}", f'file: "{NAME}"')
    capsys.readouterr()
