"""python -m remote check: what a data file holds, before anybody pays for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from remote.__main__ import main
from remote.data.byte_tokenizer import byte_tokenizer


def checked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main(["check", *arguments])
    return code, json.loads(capsys.readouterr().out)


def test_without_a_model_tokens_are_guessed_and_marked_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": "a" * 36, "completion": "b" * length}) for length in (36, 360)))
    code, report = checked(capsys, str(path))
    assert (code, report["rows"], report["basis"]) == (0, 2, "estimated from characters")
    assert (report["tokens"], report["max_tokens"], report["mean_tokens"]) == (20 + 110, 110, 65)
    assert report["histogram"] == {"<= 64": 1, "<= 128": 1}


@pytest.mark.torch
def test_with_a_model_they_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    byte_tokenizer().save_pretrained(tmp_path / "model")
    (tmp_path / "data.txt").write_text("abc\nabcde\n")
    code, report = checked(capsys, str(tmp_path / "data.txt"), "--model", str(tmp_path / "model"))
    assert (code, report["tokens"], report["basis"]) == (0, 4 + 6, "counted by the model's tokenizer")


def test_broken_rows_are_listed_and_the_exit_code_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data.jsonl").write_text('{"text": "fine"}\n{oops\n')
    code, report = checked(capsys, str(tmp_path / "data.jsonl"))
    assert (code, report["rows"], report["num_broken"]) == (2, 1, 1)
    assert report["broken"][0].startswith("line 2: not JSON")


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report = checked(capsys, str(tmp_path / "nowhere.jsonl"))
    assert code == 2
    assert report == {"error": "nowhere.jsonl can't be read: No such file or directory"}
