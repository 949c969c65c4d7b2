"""What is asked of EC2 itself, where moto tells no difference: pages of lists, and the states that are counted."""

from __future__ import annotations

import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from provision.clouds.programs import aws
from provision.clouds.programs.accounts import aws_lists, aws_quotas
from provision.seam import Answer

Asked = dict[str, str]
GROUP = "<item><groupId>{id}</groupId><tagSet><item><key>rentune-run</key><value>r1</value></item></tagSet></item>"
# The list that an action answers with, and its pages; whatever is not here is empty.
PAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "DescribeInstances": ("reservationSet", ("",)),
    "DescribeVolumes": ("volumeSet", ("",)),
    "DescribeKeyPairs": ("keySet", ("",)),
    "DescribeSecurityGroups": (
        "securityGroupInfo",
        (GROUP.format(id="sg-1"), GROUP.format(id="sg-2"), GROUP.format(id="sg-3")),
    ),
}


@contextmanager
def ec2() -> Iterator[tuple[dict[str, str], list[Asked]]]:
    """The environment that leads there, and everything that was asked."""
    asked: list[Asked] = []

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
            asked.append(form)
            name, pages = PAGES[form["Action"]]
            number = int(form.get("NextToken", "0"))
            after = f"<nextToken>{number + 1}</nextToken>" if number + 1 < len(pages) else ""
            body = f"<{form['Action']}Response><{name}>{pages[number]}</{name}>{after}</{form['Action']}Response>".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield (
            {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
                "AWS_ACCESS_KEY_ID": "testing",
                "AWS_SECRET_ACCESS_KEY": "testing",
            },
            asked,
        )
        server.shutdown()


def values_of(asked: Asked, name: str) -> set[str]:
    """Of the filter of this name."""
    [place] = [key.split(".")[1] for key, value in asked.items() if key.endswith(".Name") and value == name]
    return {value for key, value in asked.items() if key.startswith(f"Filter.{place}.Value.")}


def test_every_page_of_a_list_is_read() -> None:
    """A group on the second was left behind."""
    with ec2() as (environment, _):
        owned = aws.owned("eu-central-1", "r1", environment)
    assert owned.complete is Answer.YES, owned.message
    assert [each.id for each in owned.resources] == ["sg-1", "sg-2", "sg-3"]


def test_a_machine_s_own_disk_is_no_volume() -> None:
    """EC2 calls it one; a run's book keeps volumes, which outlive a machine."""
    row = {"Size": 100, "AvailabilityZone": "eu-central-1a", "State": "available"}
    tags = [{"Key": "rentune-run", "Value": "r1"}]
    rows = [
        row | {"VolumeId": "vol-1", "Tags": tags},
        row | {"VolumeId": "vol-2", "Tags": [*tags, {"Key": "rentune-kept", "Value": "models"}]},
    ]
    [volume], [disk] = aws_lists.volumes_of(rows, "eu-central-1")
    assert (volume.id, volume.kind, volume.name) == ("vol-2", "volume", "models")
    assert (disk.id, disk.kind, disk.name, disk.size_gib, disk.bills) == ("vol-1", "disk", None, 100, True)


def test_what_stands_or_is_on_its_way_is_listed() -> None:
    """One that is being stopped, or is off, is there, and its disk is billed."""
    with ec2() as (environment, asked):
        aws.owned("eu-central-1", "r1", environment)
    [instances] = [each for each in asked if each["Action"] == "DescribeInstances"]
    assert values_of(instances, "instance-state-name") == {"pending", "running", "stopping", "stopped", "shutting-down"}
    assert values_of(instances, "tag:rentune-run") == {"r1"}


def test_a_machine_that_is_on_its_way_counts_against_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    """EC2 has taken its vCPUs by then; one that is off has given them back."""
    monkeypatch.setattr(aws_quotas, "_limit", lambda *_: 8.0)
    with ec2() as (environment, asked):
        [quota] = aws_quotas.quotas("eu-central-1", aws_quotas.GPU_QUOTAS[:1], environment)
    assert (quota.limit, quota.used) == (8.0, 0.0)
    assert values_of(asked[0], "instance-state-name") == {"pending", "running"}
