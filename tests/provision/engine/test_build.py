"""The engine is found where it lies, built where it does not, and named by what it is made of."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from provision.clouds.engine import build
from provision.clouds.engine.bounded import run_bounded
from provision.clouds.engine.build import FOLDER, SHIM, build_engine, find_engine, install_go, install_plugin, read_version
from provision.clouds.engine.where import VERSION, engine_root
from provision.errors import MissingPart
from provision.home.places import Places, read_places
from provision.home.processes import living
from tests.provision.rigs import await_true

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


# ── what fetches and builds ────────────────────────────────────────────────────────────────────────────────────────

SECRETS = {"AWS_SECRET_ACCESS_KEY": "s3cr3t-of-aws", "HF_TOKEN": "hf-s3cr3t", "DATABASE_URL": "postgres://me:s3cr3t@there/db"}
OWN = {
    "HTTPS_PROXY": "http://me:own-proxy@127.0.0.1:1",
    "GOPROXY": "https://me:own-go@127.0.0.1:1",
    "UV_INDEX_PASSWORD": "own-index",
    "GITHUB_TOKEN": "own-github",
}
GO = """#!/bin/sh
echo "$1 $2 $(env | grep -c 's3cr3t') $(env | grep -o 'own-[a-z]*' | sort | tr '\\n' ' ')" >> "$NOTED"
case "$1" in
env) echo "go1.99.0 local" ;;
build) shift; while [ "$1" != -o ]; do shift; done; echo built > "$2" ;;
list) echo "$MODULE" ;;
esac
"""


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_what_builds_the_engine_sees_no_secret_but_those_of_its_own_way_out(empty: Places, tmp_path: Path) -> None:
    """A module's build, or a package's, is code that nobody here has read."""
    program(tmp_path / "bin" / "go", GO)
    (tmp_path / "module" / "python" / "dist").mkdir(parents=True)
    (tmp_path / "module" / "python" / "dist" / SHIM).write_text("")
    noted = tmp_path / "noted"
    given = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "NOTED": str(noted), "MODULE": str(tmp_path / "module")} | SECRETS | OWN
    assert build_engine(empty, progress=lambda _: None, environment=given).read_text() == "built\n"
    assert noted.read_text().splitlines() == [
        "env GOVERSION 0 own-go own-proxy ",
        "build -v 0 own-go own-proxy ",
        "list -m 0 own-go own-proxy ",
    ]


def test_what_fetches_a_plugin_sees_none_either(empty: Places, tmp_path: Path) -> None:
    noted = tmp_path / "noted"
    engine = program(tmp_path / "bin" / "pulumi", GO)
    with pytest.raises(MissingPart):
        install_plugin(
            empty, engine, "aws", "7.51.0", environment={"NOTED": str(noted), "PATH": "/usr/bin:/bin"} | SECRETS | OWN
        )
    assert noted.read_text() == "plugin install 0 own-github own-proxy \n"


def test_what_installs_go_sees_its_own_index_alone(empty: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = tmp_path / "noted"
    installer = program(tmp_path / "bin" / "uv", GO)
    monkeypatch.setattr(build, "installer_here", lambda: (str(installer),))
    given = {"NOTED": str(noted), "PATH": "/usr/bin:/bin"} | SECRETS | OWN
    with pytest.raises(MissingPart, match="did not install"):
        install_go(empty, progress=lambda _: None, environment=given)
    assert noted.read_text() == "--quiet --target 0 own-index own-proxy \n"


def test_what_never_ends_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    """A mirror that answers and sends nothing would be waited for until somebody looked."""
    hanging = program(tmp_path / "bin" / "go", f"#!/bin/sh\necho begun >&2\nsleep 600 & echo $! > {tmp_path}/child\nwait\n")
    heard: list[str] = []
    with pytest.raises(MissingPart, match=r"^go did not end within 1\.0 s, and was ended\.$"):
        run_bounded([hanging], environment=os.environ, within_s=1.0, hear=heard.append)
    assert heard == ["begun\n"]
    child = int((tmp_path / "child").read_text())
    await_true(lambda: living(child) is None)


def test_whoever_is_interrupted_leaves_nothing_running(tmp_path: Path) -> None:
    script = f"#!/bin/sh\nsleep 600 & echo $! > {tmp_path}/child\necho begun >&2\nwait\n"

    def interrupted(_line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_bounded([program(tmp_path / "bin" / "go", script)], environment=os.environ, within_s=60.0, hear=interrupted)
    child = int((tmp_path / "child").read_text())
    await_true(lambda: living(child) is None)


def test_what_can_not_be_started_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(MissingPart, match=r"^/\S+/go can't be started: No such file or directory\.$"):
        run_bounded([tmp_path / "go"], environment={}, within_s=1.0)
