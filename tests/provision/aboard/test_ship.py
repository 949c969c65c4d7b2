"""What travels: the trainer, its environment, the inputs, and the adapter on its way home."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from provision.aboard import readers, ship
from provision.aboard.readers import ensure_readers
from provision.aboard.ship import STACK_MARK, job_folder, package_folder, stack_hash
from provision.direct.here import local_offer
from provision.direct.local import LocalBox
from provision.errors import Declined, ProvisionError, TransferFailed
from provision.seam import Box
from provision.ssh import Shell
from remote.contract import AdapterFile, EndReason, Measured, Outcome, Strategy
from tests.doubles.builder import quick_uv
from tests.doubles.services.index import served
from tests.provision.rigs import Rig, rig_of

pytestmark = pytest.mark.box

# A python3 whose environments look for packages at an index on loopback, and keep none.
PYTHON = """#!/bin/sh
{python} "$@"
for folder; do :; done
printf '[global]\\nindex-url = {url}\\nno-cache-dir = true\\n' > "$folder/pip.conf"
"""


@pytest.fixture
def bare(box: Box, tmp_path: Path) -> Box:
    """The box as a rented one: an empty folder, no stack, nothing shared."""
    return msgspec.structs.replace(box, folder=f"{box.folder}/{tmp_path.name}", python=None, cache=None, shares_files=False)


def test_only_a_volume_that_is_kept_gets_what_other_tools_fetch(bare: Box) -> None:
    """Of the hub, of uv and of pip; a box of one's own has its caches where they always are."""
    assert ship.download_places(bare) == {}
    kept = msgspec.structs.replace(bare, cache="/mnt/rentune/cache")
    assert ship.download_places(kept) == {
        "HF_HUB_CACHE": "/mnt/rentune/cache/hub",
        "UV_CACHE_DIR": "/mnt/rentune/cache/uv",
        "UV_PYTHON_INSTALL_DIR": "/mnt/rentune/cache/python",
        "PIP_CACHE_DIR": "/mnt/rentune/cache/pip",
    }
    assert ship.download_places(msgspec.structs.replace(kept, shares_files=True)) == {}


def test_on_a_machine_that_stays_nothing_is_kept_outside_of_the_run_s_folder(bare: Box) -> None:
    """What is fetched of the hub, kernels that are built and temporary files go with the run; a rented box goes itself."""
    host = msgspec.structs.replace(bare, ours=False)
    places = ship.passing_places(host)
    assert places.keys() == {"TMPDIR", "HF_HUB_CACHE", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "CUDA_CACHE_PATH"}
    assert all(place.startswith(f"{host.folder}/") for place in places.values())
    assert ship.passing_places(msgspec.structs.replace(bare, ours=True)) == {}
    assert ship.passing_places(msgspec.structs.replace(host, shares_files=True)) == {}


def test_a_trainer_that_does_not_come_whole_leaves_the_one_that_is_there(
    shell: Shell, bare: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unpacked beside it and moved: whoever runs from there is not left with half of it."""
    ship.ship_package(shell, bare)
    there = Path(package_folder(bare), "remote", "__init__.py")
    plain = shell.run
    monkeypatch.setattr(shell, "run", lambda command, **more: plain(f"tar() {{ return 2; }}; {command}", **more))
    with pytest.raises(TransferFailed, match="could not unpack the trainer"):
        ship.ship_package(shell, bare)
    assert there.exists()


def test_a_box_that_has_not_mounted_its_volume_is_waited_for_and_then_no_good(shell: Shell, bare: Box, tmp_path: Path) -> None:
    """Nothing is written below the place where it should be; another box may do better."""
    place = tmp_path / "cache"
    kept = msgspec.structs.replace(bare, cache=str(place))
    pauses: list[float] = []

    def pause(duration_s: float) -> None:
        pauses.append(duration_s)
        if len(pauses) == 3:
            place.mkdir()

    ship.require_cache(shell, kept, sleep=pause)
    assert len(pauses) == 3
    place.rmdir()
    with pytest.raises(Declined, match="has not mounted the volume that is kept"):
        ship.require_cache(shell, kept, sleep=lambda _: None)
    assert not place.exists()


def test_the_trainer_arrives_whole_and_nothing_else(shell: Shell, bare: Box) -> None:
    ship.ship_package(shell, bare)
    there = Path(package_folder(bare), "remote")
    here = ship.PACKAGE
    names = {path.relative_to(here) for path in here.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path.relative_to(there) for path in there.rglob("*") if path.is_file()} == names
    assert all((there / name).read_bytes() == (here / name).read_bytes() for name in names)
    done = shell.run(f"cd / && PYTHONPATH={package_folder(bare)} {sys.executable} -c 'import remote; print(remote.__file__)'")
    assert done.out.strip() == str(there / "__init__.py")


def test_the_same_trainer_has_the_same_hash_and_replaces_itself(shell: Shell, bare: Box) -> None:
    first = ship.ship_package(shell, bare)
    Path(package_folder(bare), "remote/left_over.py").touch()
    assert ship.ship_package(shell, bare) == first
    assert not Path(package_folder(bare), "remote/left_over.py").exists()


def _interpreter(folder: Path, mark: str) -> str:
    """An environment of this Python that claims to be built from `mark`."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/python").symlink_to(sys.executable)
    (folder / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).parent}\n")
    (folder / STACK_MARK).write_text(mark)
    return str(folder / "bin/python")


def test_an_environment_with_the_right_mark_is_used_as_it_is(shell: Shell, bare: Box, tmp_path: Path) -> None:
    right = _interpreter(tmp_path / "right", stack_hash())
    wrong = _interpreter(tmp_path / "wrong", "0" * 64)
    assert ship.ensure_environment(shell, bare, python=right) == right
    assert ship.ensure_environment(shell, msgspec.structs.replace(bare, python=right), python=wrong) == right


PLAIN = Strategy(method="lora")
OVER_HQQ = Strategy(method="lora", quant="hqq_int4")


@pytest.fixture
def builder(tmp_path: Path) -> Iterator[tuple[Rig, Box, Path]]:
    """A box whose PATH begins with the quick builder; the file makes it fail."""
    broken = tmp_path / "broken"
    tools = tmp_path / "tools"
    quick_uv(tools, broken=broken, asked=tmp_path / "asked")
    with rig_of("local box without namespace", tmp_path) as rig:
        provisioner = LocalBox(
            tmp_path / "boxes", tmp_path / "cache", namespace=False, environment={"PATH": f"{tools}:/usr/bin:/bin", "HOME": "/"}
        )
        box = provisioner.up(local_offer(), rig.launch())
        yield rig, msgspec.structs.replace(box, python=None), broken


def test_a_missing_environment_is_built_once_and_kept_for_the_next_run(builder: tuple[Rig, Box, Path]) -> None:
    rig, box, _ = builder
    said: list[str] = []
    with rig.connect(box) as shell:
        python = ship.ensure_environment(shell, box, progress=said.append)
        assert python.startswith(str(box.cache))
        assert said == ["uv venv", "uv pip"]
        assert ship.ensure_environment(shell, box, progress=said.append) == python
        assert said == ["uv venv", "uv pip"]


def test_an_environment_on_a_volume_is_used_again_only_as_it_was_installed(builder: tuple[Rig, Box, Path]) -> None:
    """A machine that was cut off leaves files without content beside a mark that is whole; so it is built anew, once."""
    rig, box, _ = builder
    kept, said = msgspec.structs.replace(box, shares_files=False), list[str]()
    with rig.connect(kept) as shell:
        python = ship.ensure_environment(shell, kept, progress=said.append)
        (packages,) = Path(python).parents[1].glob("lib/*/site-packages")
        (packages / "torch.py").write_text("whole = True")
        (packages / "torch-2.dist-info").mkdir()
        (packages / "torch-2.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2\n")
        (packages / "torch-2.dist-info/RECORD").write_text("torch.py,,12\ntorch-2.dist-info/RECORD,,\n")
        said.clear()
        another = msgspec.structs.replace(kept, folder=f"{kept.folder}-2")
        assert ship.ensure_environment(shell, another, progress=said.append) == python
        assert said == []
        (packages / "torch.py").write_text("")
        assert ship.ensure_environment(shell, another, progress=said.append) == python
        assert said == ["torch.py of torch is not as it was installed: the environment is built anew", "uv venv", "uv pip"]
        assert not (packages / "torch.py").exists()


@pytest.mark.parametrize("gpu", ["a GPU", "this machine's GPU if any"])
def test_a_box_without_a_gpu_gets_all_of_the_lock_but_triton(builder: tuple[Rig, Box, Path], tmp_path: Path, gpu: str) -> None:
    rig, box, _ = builder
    if gpu == "a GPU":
        (tmp_path / "tools/nvidia-smi").symlink_to("/bin/true")
    with rig.connect(box) as shell:
        ship.ensure_environment(shell, box)
        has_gpu = shell.run("command -v nvidia-smi").rc == 0
    lock, asked = packages(ship.REQUIREMENTS), packages(tmp_path / "asked")
    assert asked | {"triton": lock["triton"]} == lock
    assert ("triton" in asked) == has_gpu


def packages(lock: Path) -> dict[str, set[str]]:
    """What a requirement file says of each package: name → its entries, markers and hashes included."""
    found: dict[str, set[str]] = {}
    for entry in lock.read_text().replace("\\\n", " ").splitlines():
        found.setdefault(entry.partition("==")[0], set()).add(entry)
    return found


def test_every_package_of_the_lock_has_hashes() -> None:
    """Also those of machines unlike this one: the lock is the same for all."""
    assert [
        name for name, entries in packages(ship.REQUIREMENTS).items() if not all("--hash=sha256:" in e for e in entries)
    ] == []


def test_a_package_that_was_altered_on_its_way_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the box's own pip, from an index on loopback; the same package unaltered is installed."""
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setattr(ship, "REQUIREMENTS", tmp_path / "requirements.txt")
    with served(tmp_path / "index") as (index, url), rig_of("local box without namespace", tmp_path) as rig:
        (tools / "python3").write_text(PYTHON.format(python=sys.executable, url=url))
        (tools / "python3").chmod(0o755)
        ship.REQUIREMENTS.write_text(f"rentune-tiny==1.0 \\\n    --hash=sha256:{index.offer('HONEST = True')}\n")
        environment = {"PATH": f"{tools}:/usr/bin:/bin", "HOME": "/"}
        provisioner = LocalBox(tmp_path / "boxes", tmp_path / "cache", namespace=False, environment=environment)
        box = msgspec.structs.replace(provisioner.up(local_offer(), rig.launch()), python=None)
        with rig.connect(box) as shell:
            index.offer("HONEST = False")
            with pytest.raises(ProvisionError, match=r"DO NOT MATCH THE HASHES.*rentune-tiny==1\.0"):
                ship.ensure_environment(shell, box)
            assert list(Path(str(box.cache)).rglob(STACK_MARK)) == []
            index.offer("HONEST = True")
            python = ship.ensure_environment(shell, box)
            assert shell.run(f"{python} -c 'import rentune_tiny; print(rentune_tiny.HONEST)'").out.strip() == "True"


def test_a_build_that_fails_says_its_last_words_and_is_not_mistaken_for_an_environment(
    builder: tuple[Rig, Box, Path],
) -> None:
    rig, box, broken = builder
    broken.touch()
    with rig.connect(box) as shell:
        with pytest.raises(ProvisionError, match="no space left for torch"):
            ship.ensure_environment(shell, box)
        assert list(Path(str(box.cache)).rglob(STACK_MARK)) == []


def test_what_reads_a_base_that_others_packed_is_built_once_over_the_stack(
    builder: tuple[Rig, Box, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sees the stack, which is not installed a second time; what has not its hash is refused."""
    rig, box, _ = builder
    said: list[str] = []
    monkeypatch.setattr(readers, "is_seen_to", lambda *_, **__: True)  # the double compiles nothing
    with rig.connect(box) as shell:
        assert ensure_readers(shell, box, PLAIN, "python", progress=said.append) == "python"
        stack = ship.ensure_environment(shell, box)
        python = ensure_readers(shell, box, OVER_HQQ, stack, progress=said.append)
        assert said == ["uv venv", "uv pip"]
        assert python != stack
        assert ensure_readers(shell, box, OVER_HQQ, stack, progress=said.append) == python
        assert said == ["uv venv", "uv pip"]
        assert ship.ensure_environment(shell, box) == stack
    assert packages(tmp_path / "asked") == packages(readers.REQUIREMENTS)
    (sees,) = Path(python).parents[1].glob("lib/*/site-packages/stack.pth")
    assert Path(sees.read_text().strip()).is_relative_to(Path(stack).parents[1])
    assert all("--hash=sha256:" in entry for entries in packages(readers.REQUIREMENTS).values() for entry in entries)


def test_inputs_are_copied_to_a_box_and_linked_where_files_are_shared(shell: Shell, bare: Box, tmp_path: Path) -> None:
    data = tmp_path / "train.jsonl"
    data.write_text("{}\n")
    model = tmp_path / "model"
    (model / "sub").mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (model / "sub/weights").write_bytes(b"\1" * ship.LARGE_BYTES)
    there = Path(job_folder(bare))

    ship.ship_inputs(shell, bare, {data: "inputs/train.jsonl", model: "inputs/model"})
    assert not (there / "inputs/train.jsonl").is_symlink()
    assert (there / "inputs/train.jsonl").read_text() == "{}\n"
    assert (there / "inputs/model/sub/weights").read_bytes() == (model / "sub/weights").read_bytes()
    assert (there / "inputs/model/config.json").exists()

    shared = msgspec.structs.replace(bare, shares_files=True)
    ship.ship_inputs(shell, shared, {data: "linked/train.jsonl", model: "linked/model"})
    assert (there / "linked/train.jsonl").readlink() == data
    assert (there / "linked/model").readlink() == model


def test_what_of_a_folder_is_left_out_does_not_travel(shell: Shell, bare: Box, tmp_path: Path) -> None:
    """Neither by itself, as large files do, nor with the rest."""
    model, there = tmp_path / "model", Path(job_folder(bare), "inputs/model")
    (model / ".git").mkdir(parents=True)
    for name, content in {"config.json": b"{}", ".git/objects": b"small", "optimizer.pt": b"\1" * ship.LARGE_BYTES}.items():
        (model / name).write_bytes(content)
    left_out = {model: lambda path: path.name in (".git", "optimizer.pt")}
    ship.ship_inputs(shell, bare, {model: "inputs/model"}, leave_out=left_out)
    assert [str(each.relative_to(there)) for each in there.rglob("*")] == ["config.json"]


def test_a_models_folder_of_links_arrives_with_every_file_once(shell: Shell, bare: Box, tmp_path: Path) -> None:
    """As model hubs lay them out: large files by themselves, small ones of the same name with the rest."""
    (tmp_path / "large").write_bytes(b"\1" * ship.LARGE_BYTES)
    model, there = tmp_path / "model", Path(job_folder(bare), "inputs/model")
    (model / "onnx").mkdir(parents=True)
    (model / "weights [1]").symlink_to("../large")
    (model / "onnx/weights [1]").write_bytes(b"small")
    ship.ship_inputs(shell, bare, {model: "inputs/model"})
    assert (there / "weights [1]").read_bytes() == (tmp_path / "large").read_bytes()
    assert (there / "onnx/weights [1]").read_bytes() == b"small"


def _outcome(*files: AdapterFile) -> Outcome:
    return Outcome(run_id="run-1", reason=EndReason.COMPLETED, message="Done.", phase_s={}, measured=Measured(), adapter=files)


def _saved(box: Box, name: str, content: bytes) -> AdapterFile:
    path = Path(job_folder(box), "output", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return AdapterFile(path=name, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def test_the_adapter_comes_home_file_by_file(shell: Shell, bare: Box, tmp_path: Path) -> None:
    files = [_saved(bare, "adapter_model.safetensors", b"weights" * 1000), _saved(bare, "deep/README.md", b"# card")]
    ship.fetch_adapter(shell, bare, _outcome(*files), tmp_path / "adapter")
    assert (tmp_path / "adapter/adapter_model.safetensors").read_bytes() == b"weights" * 1000
    assert (tmp_path / "adapter/deep/README.md").read_bytes() == b"# card"


@pytest.mark.fault("F20", tier="box")
def test_an_adapter_that_is_not_what_the_trainer_saved_is_refused(shell: Shell, bare: Box, tmp_path: Path) -> None:
    file = _saved(bare, "adapter_model.safetensors", b"weights")
    Path(job_folder(bare), "output", file.path).write_bytes(b"damaged")
    with pytest.raises(TransferFailed, match="damaged"):
        ship.fetch_adapter(shell, bare, _outcome(file), tmp_path / "adapter")
    assert not (tmp_path / "adapter/adapter_model.safetensors").exists()


def test_files_that_are_home_and_right_are_not_fetched_again(shell: Shell, bare: Box, tmp_path: Path) -> None:
    file = _saved(bare, "adapter_model.safetensors", b"weights")
    ship.fetch_adapter(shell, bare, _outcome(file), tmp_path / "adapter")
    Path(job_folder(bare), "output", file.path).unlink()
    ship.fetch_adapter(shell, bare, _outcome(file), tmp_path / "adapter")
    (tmp_path / "adapter" / file.path).write_bytes(b"changed")
    with pytest.raises(TransferFailed):
        ship.fetch_adapter(shell, bare, _outcome(file), tmp_path / "adapter")


def test_a_box_cannot_write_outside_the_adapters_folder(shell: Shell, bare: Box, tmp_path: Path) -> None:
    file = AdapterFile(path="../../.bashrc", size_bytes=1, sha256="0" * 64)
    with pytest.raises(TransferFailed, match="outside"):
        ship.fetch_adapter(shell, bare, _outcome(file), tmp_path / "adapter")
