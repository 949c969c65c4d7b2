"""A base packed on the disk, shard by shard: what is read from there is what packing while loading makes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from remote.__main__ import carry_out, main
from remote.bases.base import load_base
from remote.bases.stored import check_stored
from remote.checkpoints.files import bits_of
from remote.contract import OUTCOME_FILE, PACKED_KEY, EndReason, JobSpec, ModelSource, Outcome, PackedFile, decode, encode
from remote.data.byte_tokenizer import byte_tokenizer
from remote.ends import Ended
from remote.quantized.folder import pack
from remote.quantized.index import INDEX_FILE, how_of, read_index
from remote.quantized.shards import write_packed
from remote.watch import Watch
from tests.remote.conftest import CONFIG, STRATEGY, MakeJob

pytestmark = pytest.mark.torch

NF4 = msgspec.structs.replace(STRATEGY, quant="nf4", double_quant=True)
KINDS: dict[str, dict[str, Any]] = {
    "llama": CONFIG,
    "gemma3_text": CONFIG | {"model_type": "gemma3_text", "head_dim": 16, "sliding_window": 32},
}
MakeBase = Callable[..., Path]


def made_base(place: Path, config: dict[str, Any] = CONFIG, *, seed: int = 1) -> Path:
    """A base of random weights in several files."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    said = dict(config)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(said.pop("model_type"), **said), dtype=torch.float32)
    model.save_pretrained(place, max_shard_size="100KB")
    byte_tokenizer().save_pretrained(place)
    return place


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return made_base(tmp_path / "base")


def tensors(model: Any) -> dict[str, Any]:
    found = dict(model.state_dict())
    return {name: tensor for name, tensor in found.items() if hasattr(tensor, "shape")}


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("llama", {}),
        ("llama", {"double_quant": False, "quant_storage": "bfloat16"}),
        ("llama", {"quant": "fp4", "param_dtype": "bfloat16"}),
        ("gemma3_text", {}),
        ("llama", {"quant": "int8", "double_quant": False}),
        ("gemma3_text", {"quant": "int8", "double_quant": False, "param_dtype": "bfloat16"}),
    ],
)
def test_what_is_read_is_what_packing_while_loading_makes(tmp_path: Path, kind: str, said: dict[str, Any]) -> None:
    """Bit for bit, whatever is packed and however; and the base, which is never packed twice, stays as it was."""
    base, strategy = made_base(tmp_path / "base", KINDS[kind]), msgspec.structs.replace(NF4, **said)
    told: list[PackedFile] = []
    index = pack(base, tmp_path / "packed", strategy, tell=told.append)
    assert len(told) > 2
    assert [each.number for each in told] == list(range(1, told[0].of + 1))
    check_stored(str(tmp_path / "packed"), strategy)
    there = tensors(load_base(str(base), strategy, "cpu"))
    here = tensors(load_base(str(tmp_path / "packed"), strategy, "cpu"))
    assert there.keys() == here.keys()
    assert any(("SCB" if strategy.quant == "int8" else "absmax") in name for name in here)
    for name, tensor in there.items():
        assert (tensor.dtype, tensor.shape) == (here[name].dtype, here[name].shape), name
        assert bits_of(tensor).equal(bits_of(here[name])), name
    assert index.whole
    assert index.how == how_of(strategy)


def test_what_lies_there_whole_is_not_made_again(base: Path, tmp_path: Path) -> None:
    """And a file that is torn, altered or gone is, alone."""
    into = tmp_path / "packed"
    first = pack(base, into, NF4)
    shards = sorted(into.glob("*.safetensors"))
    for damage in (lambda: shards[1].write_bytes(shards[1].read_bytes()[:-7]), shards[1].unlink, lambda: None):
        damage()
        told: list[PackedFile] = []
        assert pack(base, into, NF4, tell=told.append) == first
        torn = [each.file for each in told if each.packed_now]
        assert torn in ([shards[1].name], [])
        check_stored(str(into), NF4)
    assert torn == []


DYING = """
import os, signal, sys
from pathlib import Path
from remote.contract import decode, Strategy
from remote.quantized import folder

strategy = decode(sys.argv[3], Strategy)
write, left = folder.write_packed, [2]

def torn(shard, making, packs):
    sha256 = write(shard, making, packs)
    left[0] -= 1
    if not left[0]:
        making.write_bytes(making.read_bytes()[:100])
        os.kill(os.getpid(), signal.SIGKILL)
    return sha256

folder.write_packed = torn
folder.pack(Path(sys.argv[1]), Path(sys.argv[2]), strategy)
"""


@pytest.mark.long
def test_killed_in_the_middle_of_a_file_it_goes_on_with_that_file(base: Path, tmp_path: Path) -> None:
    """With -9, so that nothing tidies up. Until it is whole nobody takes it for a model."""
    into = tmp_path / "packed"
    words = [sys.executable, "-c", DYING, str(base), str(into), msgspec.json.encode(NF4).decode()]
    assert subprocess.run(words, check=False, capture_output=True).returncode == -signal.SIGKILL
    assert not (into / "config.json").exists()
    told: list[PackedFile] = []
    pack(base, into, NF4, tell=told.append)
    assert [each.packed_now for each in told] == [False, *[True] * (len(told) - 1)]
    unbroken = pack(base, tmp_path / "unbroken", NF4)
    assert read_index(into) == unbroken
    assert not list(into.glob(".*making"))


def altered(folder: Path) -> str:
    file = min(folder.glob("*.safetensors"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    return file.name


def stranger(folder: Path) -> str:
    (folder / "more.safetensors").write_bytes(b"")
    return "more.safetensors"


def of_another_model(folder: Path) -> str:
    """Its configuration: more blocks than were packed."""
    said = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps(said | {"num_hidden_layers": 3}))
    return "config.json"


def another_model_s(folder: Path) -> str:
    """A file of the same name and length, packed of another base."""
    other = folder.with_name("of-another")
    pack(made_base(folder.with_name("another"), seed=2), other, NF4)
    name = min(file.name for file in other.glob("*.safetensors"))
    (folder / name).write_bytes((other / name).read_bytes())
    return name


def torn_in_the_middle(folder: Path) -> str:
    file = min(folder.glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return file.name


@pytest.mark.parametrize("damage", [altered, stranger, of_another_model, another_model_s, torn_in_the_middle])
def test_weights_that_are_not_as_they_were_packed_are_refused(
    base: Path, tmp_path: Path, damage: Callable[[Path], str]
) -> None:
    into = tmp_path / "packed"
    pack(base, into, NF4)
    name = damage(into)
    with pytest.raises(Ended, match=f"is not whole: {name} is not as it was packed") as refused:
        check_stored(str(into), NF4)
    assert refused.value.reason == EndReason.BAD_JOB


def test_weights_of_another_kind_than_the_job_s_are_refused(base: Path, tmp_path: Path) -> None:
    into = tmp_path / "packed"
    pack(base, into, NF4)
    for said, words in (
        ({"quant": "fp4"}, "packed with quant 'nf4', and the job says 'fp4'"),
        ({"quant": "none", "double_quant": False}, "packed with quant 'nf4', and the job says 'none'"),
        ({"param_dtype": "bfloat16"}, "packed with param_dtype 'float32', and the job says 'bfloat16'"),
    ):
        with pytest.raises(Ended, match=words):
            check_stored(str(into), msgspec.structs.replace(NF4, **said))


def test_a_folder_keeps_to_one_base_packed_in_one_way(base: Path, tmp_path: Path) -> None:
    into = tmp_path / "packed"
    pack(base, into, NF4)
    with pytest.raises(Ended, match="holds what was packed of another base"):
        pack(made_base(tmp_path / "other", seed=2), into, NF4)
    with pytest.raises(Ended, match=r"holds this base packed in another way .*double_quant True"):
        pack(base, into, msgspec.structs.replace(NF4, double_quant=False))
    with pytest.raises(Ended, match="holds a model that was not packed here"):
        pack(base, base, NF4)
    with pytest.raises(Ended, match="are packed already; name the base"):
        pack(into, tmp_path / "twice", NF4)


def test_a_base_that_is_not_whole_is_refused_before_anything_is_packed(base: Path, tmp_path: Path) -> None:
    file = sorted(base.glob("*.safetensors"))[1]
    content = file.read_bytes()
    file.write_bytes(content[:-9])
    with pytest.raises(Ended, match=f"{file.name} can't be read"):
        pack(base, tmp_path / "packed", NF4)
    file.unlink()
    with pytest.raises(Ended, match=f"holds no {file.name}: only a base whose weights lie there whole"):
        pack(base, tmp_path / "packed", NF4)
    assert not (tmp_path / "packed").exists()


def test_a_run_over_packed_weights_brings_the_same_bytes(make_job: MakeJob, base: Path, tmp_path: Path) -> None:
    """Streamed or not: the base is packed once, and each run takes it from there."""
    said = {"gradient_checkpointing": "non_reentrant"}
    strategies = [msgspec.structs.replace(NF4, **said), msgspec.structs.replace(NF4, **said, offload="stream")]
    pack(base, tmp_path / "packed", NF4)
    results = set()
    for place in ("base", "packed"):
        for number, strategy in enumerate(strategies):
            model = ModelSource(kind="folder", location=str(tmp_path / place))
            job = make_job(f"{place}{number}", strategy=strategy)
            job.write_bytes(encode(msgspec.structs.replace(decode(job.read_bytes(), JobSpec), model=model)))
            carry_out(job, watch=Watch())
            outcome = decode(job.with_name(OUTCOME_FILE).read_bytes(), Outcome)
            assert outcome.reason == EndReason.COMPLETED, outcome.message
            results.add(next(file.sha256 for file in outcome.adapter if file.path == "adapter_model.safetensors"))
    assert len(results) == 1


def test_the_command_says_how_far_it_is_and_what_is_wrong(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into = tmp_path / "packed"
    assert main(["quantize", str(base), "--into", str(into), "--dtype", "float32"]) == 0
    *files, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert all(line["packed_now"] and line["written_bytes"] > 0 for line in files)
    assert (last["packed"], last["quant"], last["double_quant"]) == (str(into), "nf4", True)
    assert json.loads((into / "config.json").read_bytes())[PACKED_KEY]["dtype"] == "float32"
    (into / INDEX_FILE).write_bytes(b"{")
    assert main(["quantize", str(base), "--into", str(into)]) == 2
    assert "packed.json is damaged" in json.loads(capsys.readouterr().out)["error"]


def test_one_file_at_a_time_is_held(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one file becomes is let go of before the next is read."""
    import gc
    import weakref

    held: list[weakref.ref[Any]] = []
    write = write_packed

    def watched(shard: Path, making: Path, packs: Any) -> str:
        gc.collect()
        assert not any(each() is not None for each in held)

        def kept(pack_one: Any) -> Any:
            def run(weight: Any) -> dict[str, Any]:
                parts: dict[str, Any] = pack_one(weight)
                held.extend(weakref.ref(part) for part in parts.values())
                return parts

            return run

        return write(shard, making, packs._replace(packs={name: kept(each) for name, each in packs.packs.items()}))

    monkeypatch.setattr("remote.quantized.folder.write_packed", watched)
    pack(base, tmp_path / "packed", NF4)
    assert len(held) > 14
