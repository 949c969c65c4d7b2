"""The engine is found where it lies, built where it does not, and named by what it is made of."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from provision.clouds.engine.build import FOLDER, SHIM, build_engine, find_engine, install_plugin, read_version
from provision.clouds.engine.where import VERSION, engine_root
from provision.errors import MissingPart
from provision.home.places import Places, read_places

ROOT = Path(__file__).parents[3]


@pytest.fixture
def empty(tmp_path: Path) -> Places:
    return Places(home=tmp_path / "home", cache=tmp_path / "cache")


def install(folder: Path, version: str) -> dict[str, str]:
    folder.mkdir()
    binary = folder / "pulumi"
    binary.write_text(f"#!/bin/sh\necho {version}\n")
    binary.chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


def test_an_installed_pulumi_of_a_fitting_version_comes_first(empty: Places, tmp_path: Path) -> None:
    assert find_engine(empty, install(tmp_path / "bin", "v3.300.0")) == tmp_path / "bin" / "pulumi"


@pytest.mark.parametrize("version", ["v3.205.0", "v2.9.0", "v4.0.0", "", "hello"])
def test_one_that_does_not_fit_is_passed_over(empty: Places, tmp_path: Path, version: str) -> None:
    """Older ones report events another way, and an unknown major may do anything."""
    environment = install(tmp_path / "bin", version)
    assert find_engine(empty, environment) is None
    built = engine_root(empty) / "bin" / "pulumi"
    built.parent.mkdir(parents=True)
    built.touch()
    assert find_engine(empty, environment) == built


def test_a_build_is_named_by_version_and_pins(empty: Places) -> None:
    """Another go.sum is another folder, so an old build is never taken for the new one."""
    pins = hashlib.sha256((FOLDER / "go.sum").read_bytes()).hexdigest()
    assert f"github.com/pulumi/pulumi/pkg/v3 v{VERSION}" in (FOLDER / "go.mod").read_text()
    assert engine_root(empty) == empty.cache / "pulumi" / f"{VERSION}-{pins[:12]}"


def test_without_go_and_without_a_registry_there_is_one_sentence(empty: Places, tmp_path: Path) -> None:
    """It names the Go that is needed and what to do."""
    nothing = {"PATH": str(tmp_path), "PIP_NO_INDEX": "1", "UV_NO_INDEX": "1", "UV_OFFLINE": "1", "HOME": str(tmp_path)}
    with pytest.raises(MissingPart, match=r"needs Go 1\.26\.6 or newer") as caught:
        build_engine(empty, progress=lambda _: None, environment=nothing)
    assert caught.value.hint


OUT_OF_REACH = """#!/bin/sh
echo 'warning: Error downloading plugin: Get "https://get.pulumi.com/x": no such host' >&2
echo 'Will retry in 1.28s [5/5]' >&2
echo 'error: [resource plugin aws-7.51.0] downloading from : failed all 5 attempts' >&2
exit 1
"""


@pytest.mark.parametrize(
    ("script", "words"),
    [(OUT_OF_REACH, 'Get "https://get.pulumi.com/x": no such host.'), ("#!/bin/sh\necho broken >&2\nexit 1\n", "broken.")],
    ids=["no such host", "something else"],
)
def test_a_plugin_that_cannot_be_fetched_is_one_sentence(script: str, words: str, empty: Places, tmp_path: Path) -> None:
    """The cause, not the engine's count of tries; the hint names what must be in reach."""
    engine = tmp_path / "pulumi"
    engine.write_text(script)
    engine.chmod(0o755)
    with pytest.raises(MissingPart) as caught:
        install_plugin(empty, engine, "aws", "7.51.0")
    assert str(caught.value).startswith("The engine could not fetch the aws plugin 7.51.0: ")
    assert str(caught.value).endswith(words)
    assert "get.pulumi.com" in str(caught.value.hint)


@pytest.mark.engine
def test_the_built_engine_says_the_pinned_version_and_has_the_shim_beside_it() -> None:
    """Without the version string the SDK would refuse it."""
    built = engine_root(read_places(os.environ)) / "bin" / "pulumi"
    if not built.exists():
        pytest.fail(f"{built} is not there; build it with: make pulumi")
    assert read_version(built) == VERSION
    assert os.access(built.parent / SHIM, os.X_OK)


@pytest.mark.engine
def test_the_command_prints_the_path_and_nothing_else(engine: Path) -> None:
    """So that a script can use it; progress goes to the other stream."""
    command = [sys.executable, "-m", "provision.clouds.engine.build"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"{engine}\n"
