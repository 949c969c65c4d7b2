"""The RunPod program under Pulumi's own mocks; and what it asks of the API itself."""

from __future__ import annotations

import base64
import json
import pickletools
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pulumi
import pulumi.runtime
import pytest
from pulumi.runtime import mocks

from catalogs.catalog import read_catalog
from planner.units import GB, GIB
from provision import errors
from provision.charge.ownerless.looking import look_for_orphans
from provision.cli import call
from provision.clouds.boot.container import END_VARIABLE
from provision.clouds.programs import runpod
from provision.clouds.programs.accounts.refusals import read_refusal
from provision.clouds.programs.accounts.runpod_api import BAD_KEY, NO_CAPACITY, TOO_POOR, connect, find
from provision.clouds.programs.order import KeptVolume, PowerOff, run_tags
from provision.clouds.programs.runpod_pods import API_VARIABLE, PodProvider
from provision.clouds.provisioner import PulumiProvisioner
from provision.errors import Exit, ProvisionError, Refused
from provision.home.clocks import CLOCKS
from provision.home.places import Places
from provision.providers import make_provisioner
from provision.seam import Answer, Resource
from tests.doubles.clouds import CLOUDS
from tests.doubles.emulator import Emulator
from tests.doubles.world.core import MACHINE, Reason
from tests.doubles.world.runpod import VOLUME
from tests.provision.orders import LAUNCH, ORDER

POD = "pulumi-python:dynamic/runpod:Pod"
ADDRESS = "pulumi-python:dynamic/runpod:Address"
OFFER = CLOUDS["runpod"].offer
CLOUD = "runpod"
PODS = msgspec.structs.replace(
    ORDER, region="*", instance_type="2x-rtx-4090-secure", allow_from=(), user_data="echo secret", image=runpod.IMAGE
)


class Recorder(pulumi.runtime.Mocks):  # type: ignore[misc] # pulumi's types are not followed
    """Takes down what the program asks for."""

    def __init__(self) -> None:
        self.inputs: dict[str, dict[str, Any]] = {}

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.inputs[args.typ] = args.inputs
        return str(len(self.inputs)), {**args.inputs, "host": "198.51.100.4", "port": 40_001}

    def call(self, args: mocks.MockCallArgs) -> dict[str, Any]:
        raise AssertionError(args)


def inputs(**changes: Any) -> dict[str, dict[str, Any]]:
    recorder = Recorder()
    pulumi.runtime.set_mocks(recorder, preview=False)
    pulumi.runtime.test(runpod.program(msgspec.structs.replace(PODS, **changes)))()
    return recorder.inputs


def body(**changes: Any) -> dict[str, Any]:
    """What is asked of RunPod; its environment is a secret on its way."""
    pod = inputs(**changes)[POD]
    read: dict[str, Any] = json.loads(pod["body"]) | {"env": json.loads(pod["environment"]["value"])}
    return read


# ── the program ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_pod_of_our_image_with_the_gpus_of_the_offer() -> None:
    """On a machine whose driver is new enough for the trainer's stack; whole numbers stay whole."""
    asked = body()
    assert (asked["name"], asked["image"]) == ("rentune-r1", runpod.IMAGE.name)
    assert asked["gpu"] == {"id": "NVIDIA GeForce RTX 4090", "count": 2, "minCudaVersion": "13.0"}
    assert type(asked["gpu"]["count"]) is type(asked["disk"]) is int


def test_a_host_must_have_the_ram_that_nobody_states() -> None:
    """Told for each GPU, in RunPod's gigabytes; of a machine whose RAM is stated nothing is asked."""
    asked = body(ram_gib=60)["gpu"]
    assert (asked["minRamPerGpu"], asked["minVcpuCountPerGpu"]) == (33, runpod.LEAST_VCPUS)
    assert "minRamPerGpu" not in body()["gpu"]


def test_no_whole_gpu_of_the_price_list_has_fewer_cores_than_a_pod_is_asked_for() -> None:
    """As far as they are stated."""
    offers = [each for each in read_catalog().offers if each.vcpus is not None and each.num_gpus >= 1]
    assert min(each.vcpus / float(each.num_gpus) for each in offers if each.vcpus) == runpod.LEAST_VCPUS


def test_secure_and_community_are_two_offers() -> None:
    assert body()["cloud"] == "SECURE"
    assert body(instance_type="1x-l40-community")["cloud"] == "COMMUNITY"


@pytest.mark.parametrize(("disk_gib", "disk_gb"), [(100, 108), (0, 20)])
def test_the_disk_has_room_for_what_the_run_needs(disk_gib: int, disk_gb: int) -> None:
    """RunPod counts in gigabytes, and refuses a pod without a size."""
    assert body(disk_gib=disk_gib)["disk"] == disk_gb


def test_only_ssh_is_reachable() -> None:
    assert body()["ports"] == ["22/tcp"]


def test_the_first_process_evaluates_what_the_environment_tells_it() -> None:
    """Not the command line, for everybody on the machine can read that."""
    asked = body()
    assert asked["entrypoint"] == ["/bin/sh", "-c", 'eval "$RENTUNE_START"']
    assert asked["env"]["RENTUNE_START"] == "echo secret"


def test_a_place_is_asked_for_only_where_the_offer_names_one() -> None:
    assert "dataCenterIds" not in body()
    assert body(region="EU-RO-1")["dataCenterIds"] == ["EU-RO-1"]


def test_a_volume_is_made_with_the_pod_and_one_that_is_there_draws_the_pod_to_it() -> None:
    """In the data centre that the offer names, or one after the other; its name is all that tells whose it is."""
    tags = run_tags(OFFER, LAUNCH, "a1b2") | {"rentune-kept": "models"}
    fresh = json.loads(inputs(volume=KeptVolume(tags=tags, size_gib=100))[POD]["volume"])
    assert (fresh["size"], fresh["path"], fresh["dataCentres"]) == (108, "/mnt/rentune", list(runpod.DATA_CENTRES))
    assert fresh["name"] == "rentune-kept models r1 a1b2 ada"
    assert runpod.from_volume_name(fresh["name"]) == {name: tags[name] for name in runpod.KEPT_FACTS}
    assert json.loads(inputs()[POD]["volume"]) == {}
    named = inputs(volume=KeptVolume(tags=tags, size_gib=1), region="US-KS-2")[POD]["volume"]
    assert (json.loads(named)["dataCentres"], json.loads(named)["size"]) == (["US-KS-2"], 10)
    there = body(volume=KeptVolume(tags={}, size_gib=100, id="vol7", place="EU-CZ-1"))
    assert there["mounts"] == {"network": [{"volumeId": "vol7", "path": "/mnt/rentune"}]}
    assert there["dataCenterIds"] == ["EU-CZ-1"]


def test_a_community_host_has_no_network_volume() -> None:
    with pytest.raises(Refused, match="community hosts have no network volumes"):
        inputs(instance_type="1x-l40-community", volume=KeptVolume(tags={}, size_gib=1, id="vol7", place="EU-CZ-1"))


@pytest.mark.parametrize("name", ["somebody's", "rentune-kept", "rentune-kept models r1"])
def test_a_volume_that_somebody_else_has_named_is_not_ours(name: str) -> None:
    assert runpod.from_volume_name(name) == {}


def test_a_tag_may_be_whatever_a_text_can_be() -> None:
    """They lie in the environment, for RunPod has no tags."""
    tags = run_tags(OFFER, LAUNCH, "a1b2") | {"Für": "Größe: 7 % \"'$(x)"}
    assert json.loads(body(tags=tags)["env"]["RENTUNE_TAGS"]) == tags


def test_a_spot_price_is_refused() -> None:
    """Version 2 of the API rents nothing that can be interrupted."""
    with pytest.raises(Refused, match="no spot machines"):
        runpod.program(msgspec.structs.replace(PODS, max_usd_per_hour=Decimal("0.1")))


def test_a_network_that_could_not_be_kept_out_is_refused() -> None:
    """Rather than believed."""
    with pytest.raises(Refused, match="no firewall, so --allow-from can't be kept"):
        runpod.program(msgspec.structs.replace(PODS, allow_from=("203.0.113.7/32",)))


@pytest.mark.parametrize("type", ["1x-mi300x-secure", "1x-toaster-secure", "rtx-4090", "1x-l4-elsewhere"])
def test_what_runpod_calls_otherwise_is_refused(type: str) -> None:
    with pytest.raises(Refused, match=f"What '{type}' is called at RunPod is not known"):
        runpod.program(msgspec.structs.replace(PODS, instance_type=type))


def test_every_nvidia_gpu_of_the_catalog_can_be_asked_for() -> None:
    """AMD's can't: the trainer's stack is CUDA's."""
    offers = [offer for offer in read_catalog().offers if offer.provider == "runpod"]
    types = {offer.instance_type for offer in offers if not (offer.gpu or "").startswith("MI")}
    assert len(types) > 40
    for type in types:
        runpod.program(msgspec.structs.replace(PODS, instance_type=type))


def test_nothing_ends_the_bill_of_a_container_but_its_own_request() -> None:
    assert runpod.POWER_OFF is PowerOff.REBOOTS


def test_every_kind_that_the_program_makes_is_known() -> None:
    """Else a state that holds one could not be read back."""
    assert set(inputs()) == set(runpod.KINDS) == {POD, ADDRESS}
    assert runpod.ADDRESS[0] in runpod.KINDS


def test_what_a_state_keeps_of_a_provider_is_its_name() -> None:
    """So a later release can delete what an earlier one created, and no key is written down."""
    for name, made in inputs().items():
        pickled = base64.b64decode(made["__provider"]["value"] if isinstance(made["__provider"], dict) else made["__provider"])
        strings = {value for _, value, _ in pickletools.genops(pickled) if isinstance(value, str)}
        assert strings == {"provision.clouds.programs.runpod_pods", f"{name.rpartition(':')[2]}Provider"}


# ── the cloud itself ───────────────────────────────────────────────────────────────────────────────────────────────


def rent(run_id: str = "r1") -> str:
    """A pod as the engine makes it; its id."""
    launch = msgspec.structs.replace(LAUNCH, run_id=run_id)
    asked = body(name=f"rentune-{run_id}", instance_type="1x-l4-secure", tags=run_tags(OFFER, launch, "a1b2"))
    environment = json.dumps(asked.pop("env"))
    return str(PodProvider().create({"body": json.dumps(asked), "environment": environment}).id)


def test_a_pod_that_costs_more_than_planned_is_deleted_at_once(reached: Emulator) -> None:
    """No create states a price, so the pod tells it; the sentence is the table's, which tries the next offer."""
    asked = body(instance_type="1x-l4-secure", tags=run_tags(OFFER, LAUNCH, "a1b2"))
    environment = json.dumps(asked.pop("env"))
    reached.control.set(prices={"NVIDIA L4 SECURE": "14.40"})

    def create(usd_per_hour: str) -> str:
        price = json.dumps({"type": "1x-l4-secure", "usd_per_hour": usd_per_hour})
        return str(PodProvider().create({"body": json.dumps(asked), "environment": environment, "price": price}).id)

    with pytest.raises(ProvisionError, match=r"^1x-l4-secure costs \$14.4000 an hour by now, and \$0.4300 was planned.$") as no:
        create("0.43")
    assert reached.control.standing() == []
    unread = errors.Declined(str(no.value), reason=errors.Reason.UNKNOWN, scope=errors.Scope.OFFER)
    read = read_refusal(runpod.REFUSALS, unread, cloud="runpod")
    assert (read.reason, read.scope) == (errors.Reason.PRICE, errors.Scope.OFFER)
    assert create("14.20")  # as rounding goes


def listed(reached: Emulator, run_id: str | None = "r1") -> tuple[Resource, ...]:
    owned = runpod.owned("*", run_id, reached.environment)
    assert owned.complete is Answer.YES, owned.message
    return owned.resources


def told(pod: dict[str, Any]) -> dict[str, str]:
    environment: dict[str, str] = pod["details"]["body"]["env"]
    return environment


def test_a_pod_is_told_how_it_ends_itself(reached: Emulator) -> None:
    """Where, and in which words; with no key of the account."""
    rent()
    [pod] = reached.control.standing()
    assert told(pod)[API_VARIABLE] == f"{reached.url}/v2"
    assert "end_box()" in told(pod)[END_VARIABLE]
    assert "a-secret-of-the-account" not in json.dumps(pod)


def test_our_pods_are_listed_with_whose_they_are(reached: Emulator) -> None:
    """All pages, wherever the pods are; another's pod is not named."""
    api = connect(reached.environment)
    for run_id in ("r1", "r2", "r3"):
        rent(run_id)
        api.ask("POST", "/pods", {"name": "theirs", "image": "x", "gpu": {"id": "NVIDIA L4"}, "cloud": "SECURE", "disk": 20})
    assert {one.run_id for one in listed(reached, None)} == {"r1", "r2", "r3"}
    [pod] = listed(reached)
    assert (pod.kind, pod.bills, pod.owner, pod.installation) == ("instance", True, "ada", "a1b2")
    assert pod.deadline_at_s == LAUNCH.deadline_at_s
    assert runpod.regions(reached.environment) == ("*",)


@pytest.mark.parametrize("env", [{}, {"RENTUNE_TAGS": "{"}], ids=["none", "damaged"])
def test_a_pod_that_lost_its_environment_is_known_by_its_name(reached: Emulator, env: dict[str, str]) -> None:
    """The run is in it, so its bill can be ended; whose it is, and until when, nobody knows."""
    asked = {"name": "rentune-r1", "image": "x", "gpu": {"id": "NVIDIA L4"}, "cloud": "SECURE", "disk": 20, "env": env}
    connect(reached.environment).ask("POST", "/pods", asked)
    [pod] = listed(reached)
    assert (pod.run_id, pod.owner, pod.deadline_at_s) == ("r1", None, None)


def test_a_cloud_that_does_not_answer_is_unknown_not_empty(reached: Emulator) -> None:
    """Wrong key, no key, nobody there, or a key in the clear: each says so."""
    rent()
    answers = {
        BAD_KEY: reached.environment | {"RUNPOD_API_KEY": "another"},
        "asks for a token": reached.environment | {"RUNPOD_API_KEY": ""},
        "did not answer": reached.environment | {"RUNPOD_REST_URL": "http://127.0.0.1:9/v2"},
        "only asked over https": reached.environment | {"RUNPOD_REST_URL": "http://203.0.113.9/v2"},
    }
    for words, environment in answers.items():
        owned = runpod.owned("*", "r1", environment)
        assert owned.complete is Answer.UNKNOWN
        assert words in owned.message
        assert "a-secret-of-the-account" not in owned.message


def test_what_was_too_much_is_asked_again(reached: Emulator) -> None:
    """Once or twice is not worth a word; what does not end is told."""
    rent()
    reached.control.plant("list", Reason.THROTTLED, times=2)
    assert len(listed(reached)) == 1
    reached.control.plant("list", Reason.BROKEN, times=4)
    owned = runpod.owned("*", "r1", reached.environment)
    assert (owned.complete, "something went wrong" in owned.message) == (Answer.UNKNOWN, True)


@pytest.mark.parametrize(("reason", "words"), [(Reason.NO_CAPACITY, NO_CAPACITY), (Reason.QUOTA, TOO_POOR)])
def test_a_no_to_a_create_is_one_sentence_in_our_words(reached: Emulator, reason: Reason, words: str) -> None:
    reached.control.plant("create", reason)
    with pytest.raises(ProvisionError, match=rf"^RunPod declined POST /pods: {words}$"):
        rent()
    assert reached.control.standing() == []


def test_a_create_is_never_asked_twice(reached: Emulator) -> None:
    """What failed at the cloud may have been done all the same, and a second pod costs as much again."""
    reached.control.plant("create", Reason.BROKEN, after=True)
    with pytest.raises(ProvisionError, match="something went wrong"):
        rent()
    assert len(reached.control.standing(MACHINE)) == len(listed(reached)) == 1


def test_a_delete_ends_the_bill_and_gone_is_fine(reached: Emulator) -> None:
    rent()
    reached.control.advance(3600)
    assert reached.control.bill_usd() >= Decimal("0.49")
    [pod] = listed(reached)
    runpod.destroy_stray(pod, reached.environment)
    paid = reached.control.bill_usd()
    reached.control.advance(3600)
    assert reached.control.bill_usd() == paid
    assert listed(reached) == ()
    runpod.destroy_stray(pod, reached.environment)
    PodProvider().delete(pod.id, {})


def rent_with_volume(*centres: str) -> str:
    """A pod and the volume that is made for it; its id."""
    asked = body(instance_type="1x-l4-secure", tags=run_tags(OFFER, LAUNCH, "a1b2"))
    environment = json.dumps(asked.pop("env"))
    name = runpod.volume_name(run_tags(OFFER, LAUNCH, "a1b2") | {"rentune-kept": "models"})
    wanted = {"name": name, "size": 12, "path": "/mnt/rentune", "dataCentres": centres or runpod.DATA_CENTRES}
    props = {"body": json.dumps(asked), "environment": environment, "volume": json.dumps(wanted)}
    return str(PodProvider().create(props).id)


def test_where_no_pod_is_free_its_volume_goes_and_the_next_data_centre_is_asked(reached: Emulator) -> None:
    """A volume lies in one of them, and must be there before the pod."""
    reached.control.plant("create", Reason.NO_CAPACITY, MACHINE, times=2)
    rent_with_volume()
    owned = runpod.owned("*", "r1", reached.environment)
    assert [(each.kind, each.region, each.name, each.in_use) for each in owned.kept] == [
        ("volume", runpod.DATA_CENTRES[2], "models", True)
    ]
    assert [each.kind for each in owned.resources] == ["instance"]


def test_a_disk_that_is_sold_by_the_gb_is_told_by_the_gib_and_never_cheaper_than_it_is(reached: Emulator) -> None:
    """Nor by a GiB more than it has: 12 GB at RunPod's own 7 cents, and a container's 20 GB at 10."""
    rule = read_catalog().billing["runpod"]
    rent_with_volume()
    [kept] = runpod.owned("*", "r1", reached.environment).kept
    sold = (
        (kept.size_gib, rule.volume_usd_per_gib_month, 12, "0.07"),
        (rule.minimum_disk_gib, rule.disk_usd_per_gib_month, runpod.LEAST_DISK_GB, "0.10"),
    )
    for size_gib, usd, size_gb, usd_per_gb in sold:
        assert size_gib is not None
        assert usd is not None
        assert (size_gib - 1) * GIB < size_gb * GB <= size_gib * GIB
        assert size_gib * usd >= size_gb * Decimal(usd_per_gb)
        assert usd == pytest.approx(Decimal(usd_per_gb) * GIB / GB, rel=Decimal("0.001"))


def test_where_no_pod_is_free_anywhere_no_volume_is_left(reached: Emulator) -> None:
    reached.control.plant("create", Reason.NO_CAPACITY, MACHINE, times=2)
    with pytest.raises(ProvisionError, match=NO_CAPACITY):
        rent_with_volume("EU-RO-1", "US-KS-2")
    assert reached.control.standing() == []


def test_where_nobody_knows_whether_the_pod_came_its_volume_stays_and_is_found(reached: Emulator) -> None:
    """It may be the pod's; it is listed as kept, and no further pod is asked for."""
    reached.control.plant("create", Reason.BROKEN, MACHINE, after=True)
    with pytest.raises(ProvisionError):
        rent_with_volume()
    owned = runpod.owned("*", None, reached.environment)
    assert ([each.name for each in owned.kept], len(owned.resources)) == (["models"], 1)


@pytest.mark.parametrize(("kind", "after"), [(MACHINE, False), (VOLUME, True)])
def test_a_volume_that_an_error_of_the_clouds_left_is_said_to_be_there(
    reached: Emulator, kind: str, after: bool, places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    """No pod came, and it bills: by its name the run's own end, and each look from any computer, tells it and what ends it."""
    reached.control.plant("create", Reason.BROKEN, kind, after=after)
    with pytest.raises(ProvisionError, match="something went wrong"):
        rent_with_volume()
    provisioner = make_provisioner("runpod", places=places)
    assert isinstance(provisioner, PulumiProvisioner)
    [volume] = runpod.owned("*", "r1", reached.environment).kept
    told = f"listed volume {volume.id}, to be kept as asked, which ends with the run's box if it is blank; and nothing else."
    assert told in provisioner._left("*", "r1")
    for words in (["down", "--orphans"], ["down", "--orphans", "r1"], ["ls", "--orphans"]):
        assert call(words) == Exit.OK
        said = " ".join(capsys.readouterr().out.split())
        assert "`rentune down --volumes r1` ends it" in said
        assert "Nothing of ours is left" not in said


def test_what_a_list_still_names_as_ended_is_gone(reached: Emulator) -> None:
    """It costs nothing, so nobody waits for it."""
    rent()
    reached.control.set(list_lag_s=60)
    reached.control.advance(120)
    [pod] = listed(reached)
    runpod.destroy_stray(pod, reached.environment)
    assert connect(reached.environment).ask("GET", "/pods")["pods"][0]["status"] == "TERMINATED"
    assert listed(reached) == ()


def test_an_id_from_elsewhere_leads_to_no_other_address(reached: Emulator) -> None:
    """Whatever stands in it is quoted."""
    rent()
    [pod] = listed(reached)
    runpod.destroy_stray(msgspec.structs.replace(pod, id=f"{pod.id}?"), reached.environment)
    assert listed(reached) == (pod,)


def test_a_pod_that_went_is_read_as_gone(reached: Emulator) -> None:
    """So a refreshed state does not name it any more."""
    pod, kept = rent(), {"name": "rentune-r1", "__provider": "x"}
    assert (PodProvider().read(pod, kept).id, PodProvider().read(pod, kept).outs) == (pod, {"name": "rentune-r1"})
    PodProvider().delete(pod, {})
    assert find(connect(reached.environment), pod) is None
    assert PodProvider().read(pod, kept).id == ""


@contextmanager
def endless(lines: bytes) -> Iterator[str]:
    """A server that answers once with these lines and then says nothing more; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            caller, _ = server.accept()
            with caller:
                caller.recv(65536)
                caller.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + lines)
                caller.recv(1)  # until it has had enough

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v2"
        thread.join()


def test_the_log_is_what_came_before_it_fell_silent() -> None:
    """RunPod's stream of a log has no end."""
    events = b'event: log\ndata: {"line": "rentune: it could not"}\n\nevent: log\ndata: {"line": "end itself"}\n\n'
    with endless(events) as url:
        instance = Resource(kind="instance", id="pod1")
        assert runpod.console(instance, {"RUNPOD_API_KEY": "k", "RUNPOD_REST_URL": url}) == "rentune: it could not\nend itself"


def test_a_log_that_can_not_be_had_is_empty(reached: Emulator) -> None:
    """It is only ever shown beside a reason."""
    assert runpod.console(Resource(kind="instance", id="pod9"), reached.environment) == ""


def test_another_computer_finds_a_pod_by_the_account_alone(reached: Emulator, tmp_path: Path) -> None:
    """No ledger, no state: only the account's key is here. Its deadline has passed, so whoever finds it may end it."""
    pod = rent()
    found = look_for_orphans(Places(home=tmp_path / "home", cache=tmp_path / "cache"), CLOCKS)
    assert [(provider, resource.id, resource.run_id) for provider, resource in found.strays] == [("runpod", pod, "r1")]
