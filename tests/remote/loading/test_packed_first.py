"""A base that is streamed in 4 bits is packed on the disk first: RAM holds it once then, and the next run finds it there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from remote.__main__ import carry_out
from remote.bases.base import load_base
from remote.contract import OUTCOME_FILE, PACKED_INDEX, EndReason, JobSpec, ModelSource, Outcome, Strategy, decode, encode
from remote.ends import Ended
from remote.loading.packed import packed_first
from remote.quantized.folder import pack
from remote.watch import Watch
from tests.remote.conftest import MakeJob
from tests.remote.quantized.test_quantized import NF4, made_base

pytestmark = pytest.mark.torch

STREAMED = msgspec.structs.replace(NF4, gradient_checkpointing="non_reentrant", offload="stream")
EIGHT_BITS = msgspec.structs.replace(STREAMED, quant="int8", double_quant=False)
PACKING = {"what": "packing", "done": 1}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model cache that outlives a job, as a kept volume's does."""
    monkeypatch.setenv("RENTUNE_MODEL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


def ran(make_job: MakeJob, name: str, base: Path, strategy: Strategy) -> tuple[str, list[dict[str, object]]]:
    """The adapter's hash, and the run's events."""
    job = make_job(name, strategy=strategy)
    model = ModelSource(kind="folder", location=str(base))
    job.write_bytes(encode(msgspec.structs.replace(decode(job.read_bytes(), JobSpec), model=model)))
    carry_out(job, watch=Watch())
    outcome = decode(job.with_name(OUTCOME_FILE).read_bytes(), Outcome)
    assert outcome.reason == EndReason.COMPLETED, outcome.message
    adapter = next(file.sha256 for file in outcome.adapter if file.path == "adapter_model.safetensors")
    return adapter, [msgspec.json.decode(line) for line in job.with_name("events.jsonl").read_bytes().splitlines()]


@pytest.mark.parametrize("said", [STREAMED, EIGHT_BITS], ids=["nf4", "int8"])
def test_a_streamed_base_is_packed_once_and_each_run_learns_the_same(
    said: Strategy, make_job: MakeJob, tmp_path: Path, cache: Path
) -> None:
    """Where the cache outlives a job, the next one packs nothing; what is resident is packed while it is loaded, as ever."""
    base = made_base(tmp_path / "base")
    resident, _ = ran(make_job, "resident", base, msgspec.structs.replace(said, offload="none"))
    assert not list(cache.glob("packed-*"))
    first, events = ran(make_job, "first", base, said)
    (packed,) = cache.glob("packed-*")
    made = {file.name: file.stat().st_mtime_ns for file in packed.glob("*.safetensors")}
    assert any(event["kind"] == "progress" and event["data"] == PACKING | {"total": len(made)} for event in events)
    assert len(made) > 1
    again, _ = ran(make_job, "again", base, said)
    assert made == {file.name: file.stat().st_mtime_ns for file in packed.glob("*.safetensors")}
    assert resident == first == again


class Said:
    """A desk at which nobody asks for an end, and what it was told."""

    def __init__(self) -> None:
        self.events = self.watch = self
        self.warned: list[str] = []
        self.progress: list[dict[str, object]] = []
        self.asked = False

    def warn(self, message: str) -> None:
        self.warned.append(message)

    def emit(self, _kind: str, **data: object) -> None:
        self.progress.append(data)

    def check(self) -> None:
        if self.asked:
            raise Ended(EndReason.INTERRUPTED, "asked to stop")


def test_a_disk_without_room_is_told_and_the_base_packed_while_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, said = made_base(tmp_path / "base"), Said()
    monkeypatch.setattr("remote.loading.packed.free_bytes", lambda _folder: 10)
    assert packed_first(str(base), STREAMED, tmp_path, said) == str(base)  # type: ignore[arg-type]
    (told,) = said.warned
    assert told.startswith(
        "the base is packed while it is loaded, which takes its packed size of RAM more: 0.0 GB of disk are free"
    )
    assert not list(tmp_path.glob("packed-*"))


def test_a_cache_that_nobody_has_made_yet_is_made(make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A base in a folder needs none before it is packed, so that the first run on a machine finds none."""
    cache = tmp_path / "not" / "there" / "yet"
    monkeypatch.setenv("RENTUNE_MODEL_CACHE", str(cache))
    ran(make_job, "first", made_base(tmp_path / "base"), STREAMED)
    assert len(list(cache.glob("packed-*/packed.json"))) == 1


def test_a_cache_that_can_t_be_written_is_told_and_the_base_packed_while_it_is_loaded(tmp_path: Path) -> None:
    """As a file in its place can't, nor a disk that is mounted to be read."""
    base, said, cache = made_base(tmp_path / "base"), Said(), tmp_path / "cache"
    cache.write_text("a file")
    assert packed_first(str(base), STREAMED, cache, said) == str(base)  # type: ignore[arg-type]
    (told,) = said.warned
    assert told.startswith(
        f"the base is packed while it is loaded, which takes its packed size of RAM more: {cache} can't be written: "
    )


@pytest.mark.parametrize("index", [None, "{", "\xff"])
def test_a_packed_cache_whose_list_is_gone_or_damaged_is_made_anew(tmp_path: Path, index: str | None) -> None:
    base, said = made_base(tmp_path / "base"), Said()
    into = Path(packed_first(str(base), STREAMED, tmp_path, said))  # type: ignore[arg-type]
    listed = into / PACKED_INDEX
    before = listed.read_bytes()
    listed.unlink()
    if index is not None:
        listed.write_bytes(index.encode("latin-1"))
    assert packed_first(str(base), STREAMED, tmp_path, said) == str(into)  # type: ignore[arg-type]
    assert said.warned == []
    assert listed.read_bytes() == before


def test_packing_tells_how_far_it_is_and_stops_when_it_is_asked_to(tmp_path: Path) -> None:
    """Whoever asks is not answered with another way to load; the next try goes on with what is there."""
    base, said = made_base(tmp_path / "base"), Said()
    said.asked = True
    with pytest.raises(Ended, match="asked to stop"):
        packed_first(str(base), STREAMED, tmp_path, said)  # type: ignore[arg-type]
    said.asked = False
    into = packed_first(str(base), STREAMED, tmp_path, said)  # type: ignore[arg-type]
    assert into != str(base)
    assert said.warned == []
    done = [each["done"] for each in said.progress]
    assert done == [1, *range(1, len(done))]


@pytest.mark.parametrize("said", [{"offload": "none"}, {"quant": "none", "double_quant": False}])
def test_what_is_not_streamed_or_stays_in_16_bits_is_loaded_as_it_lies(said: dict[str, Any], tmp_path: Path) -> None:
    base = made_base(tmp_path / "base")
    assert packed_first(str(base), msgspec.structs.replace(STREAMED, **said), tmp_path, Said()) == str(base)  # type: ignore[arg-type]


@pytest.mark.parametrize(("said", "kind"), [(STREAMED, "Linear4bit"), (EIGHT_BITS, "Linear8bitLt")])
def test_what_is_packed_on_the_disk_takes_no_ram_until_it_is_put_where_it_waits(
    said: Strategy, kind: str, tmp_path: Path
) -> None:
    """Each packed weight is the file, mapped: what a streamed base holds of its own is the arenas."""
    pack(made_base(tmp_path / "base"), tmp_path / "packed", said)
    model = load_base(str(tmp_path / "packed"), msgspec.structs.replace(said, offload="none"), "cpu")
    maps = (line.split() for line in Path("/proc/self/maps").read_text().splitlines())
    mapped = [tuple(int(end, 16) for end in line[0].split("-")) for line in maps if line[-1].endswith(".safetensors")]
    packed = [module.weight.data_ptr() for module in model.modules() if type(module).__name__ == kind]
    assert len(packed) > 4
    assert all(any(begin <= place < end for begin, end in mapped) for place in packed)
