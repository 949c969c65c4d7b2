"""What is looked at on this machine before anything is rented."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from planner.asking.request import Request
from planner.asking.sent import NOTHING, Sent
from provision.errors import BadInput, Refused
from provision.prepare.inputs import BaseModel, hub_secrets, require_hub_access, with_absolute_paths
from provision.prepare.inputs.sent import sent_of
from tests.provision.plans import tiny_files, tiny_plan


@pytest.mark.parametrize("name", ["taken/adapter", "taken"])
def test_an_adapter_that_cannot_be_kept_is_told_before_anything_is_rented(tmp_path: Path, name: str) -> None:
    """A file stands where the folder should; one that can be made is not made by asking."""
    (tmp_path / "taken").touch()
    request = tiny_plan(*tiny_files(tmp_path)).request

    def kept_in(folder: Path) -> Request:
        return msgspec.structs.replace(request, keep=msgspec.structs.replace(request.keep, adapter=str(folder)))

    with pytest.raises(BadInput, match=f"can't be kept in {tmp_path / name} .*: Not a directory"):
        with_absolute_paths(kept_in(tmp_path / name))
    assert with_absolute_paths(kept_in(tmp_path / "a/b")).keep.adapter == str(tmp_path / "a/b")
    assert not (tmp_path / "a").exists()


def test_an_adapter_goes_into_no_folder_that_holds_something(tmp_path: Path) -> None:
    """It may be an earlier run's, which no longer lies anywhere else, or a README of the user's own."""
    (tmp_path / "out").mkdir()
    request = tiny_plan(*tiny_files(tmp_path)).request
    kept = msgspec.structs.replace(request, keep=msgspec.structs.replace(request.keep, adapter=str(tmp_path / "out")))
    assert with_absolute_paths(kept).keep.adapter == str(tmp_path / "out")
    (tmp_path / "out/README.md").write_text("# Our project")
    with pytest.raises(BadInput, match=r"README\.md lies there") as refused:
        with_absolute_paths(kept)
    assert "a new folder, or an empty one" in str(refused.value.hint)


GATED = BaseModel(kind="hub", hub_id="meta-llama/Llama-3.1-8B")


@pytest.mark.fault("F18", tier="code")
def test_gated_weights_without_a_token_are_refused_before_anything_is_rented(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"meta-llama/Llama-3\.1-8B is gated") as refused:
        require_hub_access(GATED, {"HF_HOME": str(tmp_path)})
    assert "HF_TOKEN=" in str(refused.value.hint)
    require_hub_access(GATED, {"HF_TOKEN": "hf_a"})
    require_hub_access(BaseModel(kind="hub", hub_id="Qwen/Qwen2.5-7B"), {"HF_HOME": str(tmp_path)})


def test_the_token_is_found_where_the_hub_s_own_tools_keep_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hf_kept\n")
    assert hub_secrets(GATED, {"HF_HOME": str(tmp_path)}) == {"HF_TOKEN": "hf_kept"}
    assert hub_secrets(GATED, {"HF_TOKEN_PATH": str(tmp_path / "token")}) == {"HF_TOKEN": "hf_kept"}
    assert hub_secrets(GATED, {"HF_HOME": str(tmp_path), "HF_TOKEN": "hf_said"}) == {"HF_TOKEN": "hf_said"}


def test_a_base_that_lies_at_home_needs_no_token() -> None:
    assert hub_secrets(BaseModel(kind="folder", path="/model"), {"HF_TOKEN": "hf_a"}) == {}


def test_what_a_machine_will_be_sent_is_counted_from_the_files(tmp_path: Path) -> None:
    """A model folder as far as it is read, rows and held-out rows, an earlier adapter; of a hub's base the rows alone."""
    sizes = {"base/model.safetensors": 5_000, "base/config.json": 50, "base/tokenizer.json": 20, "a.jsonl": 600, "b.jsonl": 30}
    for name, num_bytes in sizes.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * num_bytes)
    request = tiny_plan(*tiny_files(tmp_path)).request
    data = msgspec.structs.replace(request.data, path=str(tmp_path / "a.jsonl"), held_out_path=str(tmp_path / "b.jsonl"))

    def asking(model: str, adapter: str | None = None) -> Request:
        loop = msgspec.structs.replace(request.loop, init_adapter=adapter)
        return msgspec.structs.replace(request, model=model, data=data, loop=loop)

    assert sent_of(asking(str(tmp_path / "base"))) == Sent(base_bytes=5_070, rest_bytes=630)
    assert sent_of(asking("Qwen/Qwen2.5-7B", str(tmp_path / "base"))) == Sent(rest_bytes=630 + 5_070)
    (tmp_path / "base.gguf").write_bytes(b"x" * 900)
    assert sent_of(asking(str(tmp_path / "base.gguf"))) == Sent(base_bytes=900, rest_bytes=630, packed=True)
    assert (
        sent_of(msgspec.structs.replace(asking("7b"), data=msgspec.structs.replace(data, path=None, held_out_path=None)))
        == NOTHING
    )
