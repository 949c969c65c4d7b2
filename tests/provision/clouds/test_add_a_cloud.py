"""docs/add-a-cloud.md tells the truth: its cloud, taken from the page as it stands, keeps the cheap part of the contract."""

from __future__ import annotations

import importlib
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import pulumi.runtime
import pytest
from pulumi.runtime import mocks
from werkzeug.serving import make_server

import tests.doubles.clouds as doubles
import tests.doubles.world as world_package
from provision.clouds import programs
from provision.clouds.programs import Cloud, load_cloud
from provision.clouds.programs.order import PowerOff
from provision.clouds.programs.rest import Api
from provision.clouds.programs.tagging import label
from tests.doubles.emulator import Emulator
from tests.doubles.world.app import App
from tests.doubles.world.core import Clock, Settings, World
from tests.doubles.world.serve import NOBODYS, Handler
from tests.provision.clouds import test_world_clouds as spec

# The contract itself, with the fixtures below: what is asked of every cloud's own half.
from tests.provision.clouds.test_world_clouds import (  # noqa: F401
    test_a_cloud_that_does_not_answer_is_unknown_not_empty,
    test_a_create_is_never_asked_for_twice,
    test_a_list_of_many_pages_is_read_to_its_end,
    test_a_price_that_has_risen_is_what_is_billed,
    test_everything_of_a_run_can_be_ended_one_by_one,
    test_only_a_delete_ends_the_bill,
    test_the_program_says_of_a_power_off_what_the_cloud_does,
    test_what_is_ours_is_listed_with_whose_it_is_and_until_when,
    test_what_was_too_much_is_asked_again,
)
from tests.provision.orders import ORDER

PAGE = Path(__file__).parents[3] / "docs" / "add-a-cloud.md"
# The first line of each block of code says where it belongs.
BLOCKS = {
    block.partition("\n")[0].removeprefix("# "): block
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
}
ROWS: Final[tuple[tuple[Any, str], ...]] = (
    (programs, "provision/clouds/programs/__init__.py"),
    (doubles, "tests/doubles/clouds.py"),
)


def rent_at_toy(api: Api, tags: Mapping[str, str], public_key: str) -> int:
    labels = {label(key): label(value) for key, value in tags.items()}
    body = {"name": f"rentune-{tags['rentune-run']}", "type": "small", "public_key": public_key, "labels": labels}
    return int(api.ask("POST", "/boxes", body)["box"]["id"])


def the_program() -> Any:
    """The page's module, with what it has beside the names of a cloud."""
    return importlib.import_module("provision.clouds.programs.toy")


@pytest.fixture(autouse=True)
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's files beside the real ones, its rows in the real tables, for as long as a test lasts."""
    for package in (programs, world_package):
        name = f"{package.__name__}.toy"
        folder = tmp_path / package.__name__
        folder.mkdir()
        (folder / "toy.py").write_text(BLOCKS[f"{name.replace('.', '/')}.py"])
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
        monkeypatch.delitem(sys.modules, name, raising=False)
    for module, file in ROWS:
        rows: dict[str, Any] = {}
        exec(BLOCKS[f"a row of CLOUDS in {file}"], {**vars(module), "CLOUDS": rows})
        monkeypatch.setitem(module.CLOUDS, "toy", rows["toy"])
    monkeypatch.setitem(spec.RENT, "toy", rent_at_toy)
    monkeypatch.setitem(spec.CONNECT, "toy", lambda environment: the_program().connect(environment))
    monkeypatch.setitem(spec.UNKNOWN, "toy", "unauthorized")
    monkeypatch.setitem(spec.BROKEN, "toy", "broken")


@pytest.fixture
def at(added: None) -> Iterator[Emulator]:
    """The fake cloud with the page's dialect, in this process."""
    dialect = importlib.import_module("tests.doubles.world.toy").DIALECT
    world = World(Settings(power_off=PowerOff.KEEPS_BILLING), Clock(), NOBODYS)
    server = make_server("127.0.0.1", 0, App(world, dialect, threading.Lock()), threaded=True, request_handler=Handler)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield Emulator(f"http://127.0.0.1:{server.server_port}", "toy")
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.fixture
def cloud(at: Emulator) -> Cloud:
    return load_cloud(at.cloud)


def test_the_program_has_every_name_of_a_cloud() -> None:
    """So a name that is added to `Cloud` must come to the page as well."""
    wanted = set(Cloud.__annotations__) | {name for name, value in vars(Cloud).items() if callable(value) and name[0] != "_"}
    assert {name for name in wanted if not hasattr(load_cloud("toy"), name)} == set()


def test_the_program_makes_what_it_says() -> None:
    """Under Pulumi's own mocks: one resource, whose body holds the user data."""
    made: dict[str, dict[str, Any]] = {}

    class Recorder(pulumi.runtime.Mocks):  # type: ignore[misc] # pulumi's types are not followed
        def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
            made[args.typ] = args.inputs
            return "1", {**args.inputs, "host": "198.51.100.4"}

        def call(self, args: mocks.MockCallArgs) -> dict[str, Any]:
            raise NotImplementedError(args.token)

    pulumi.runtime.set_mocks(Recorder(), preview=False)
    pulumi.runtime.test(load_cloud("toy").program(msgspec.structs.replace(ORDER, instance_type="small")))()
    assert set(made) == set(load_cloud("toy").KINDS)
    [inputs] = made.values()
    assert ORDER.user_data.splitlines()[0] in str(inputs["body"])


def test_the_resource_is_made_and_ended_by_its_provider(at: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the engine calls it; what it made the cloud's own half finds."""
    for name, value in at.environment.items():
        monkeypatch.setenv(name, value)
    provider, labels = the_program().BoxProvider(), {"rentune-run": "r1"}
    made = provider.create({"body": msgspec.json.encode({"name": "b", "type": "small", "labels": labels}).decode()})
    assert made.outs["host"]
    assert [resource.id for resource in spec.listed(at)] == [made.id]
    provider.delete(made.id, {})
    assert spec.listed(at) == ()
    assert provider.read(made.id, {}).id == ""


def test_a_caller_that_moved_is_let_in(at: Emulator, cloud: Cloud) -> None:
    spec.rent(at)
    cloud.admit("anywhere", "r1", ("198.51.100.9/32",), at.environment)
    [box] = at.control.standing()
    assert box["details"]["allow_from"] == ["198.51.100.9/32"]


def test_its_word_is_what_has_happened() -> None:
    """No engine has rented from it."""
    assert programs.CLOUDS["toy"].status == "double only"
    assert not programs.CLOUDS["toy"].ends_itself
