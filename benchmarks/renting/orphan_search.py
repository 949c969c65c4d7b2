"""What a search for orphans takes where an account is large: 20 regions with 1,000 instances of ours each.

    python -m benchmarks.renting.orphan_search [--write]

Asked is the AWS program through boto3, as `rentune ls --orphans` asks; what answers is a server on loopback that knows the five
lists and nothing else, a thousand instances a page, each answer late by what a call across an ocean takes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

from benchmarks.machine import RESULTS, describe_machine
from provision.charge.ownerless.orphans import Orphans, find_orphans
from provision.clouds.engine.here import EngineHere
from provision.clouds.inventory import AT_ONCE
from provision.clouds.programs import load_cloud
from provision.clouds.provisioner import PulumiProvisioner
from provision.home.places import Places

RESULT = RESULTS / "orphan_search.md"
REGIONS: Final = tuple(f"eu-test-{number}" for number in range(1, 21))
INSTANCES: Final = 1000  # a region
LATENCY_S: Final = 0.15  # assumed: a round trip across an ocean, and the answer's making
SCHEMA: Final = "http://ec2.amazonaws.com/doc/2016-11-15/"
OURS: Final = {
    "rentune-run": "20261126-000000-{:04x}",
    "rentune-installation": "0123456789abcdef",
    "rentune-owner": "ada",
    "rentune-deadline": "1800000000",
    "rentune-usd-per-hour": "1.006",
}
LISTS: Final = {  # the call → the element that holds what it lists
    "DescribeSpotInstanceRequests": "spotInstanceRequestSet",
    "DescribeVolumes": "volumeSet",
    "DescribeSecurityGroups": "securityGroupInfo",
    "DescribeKeyPairs": "keySet",
}


def main() -> int:
    """Print the table; exit 1 if not everything was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    asked = parser.parse_args()
    with served() as (url, calls), tempfile.TemporaryDirectory() as folder:
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        found = search(url, Path(folder))
        took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    text = report(found, calls, took_s, cpu_s)
    print(text)
    if asked.write:
        RESULT.write_text(text)
    return 0 if len(found.strays) == len(REGIONS) * INSTANCES and not found.unseen else 1


def search(url: str, folder: Path) -> Orphans:
    """As `rentune ls --orphans` does it, from a computer without a ledger."""
    environment = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    places = Places(home=folder / "home", cache=folder / "cache")
    provisioner = PulumiProvisioner("aws", load_cloud("aws"), EngineHere(places, None, environment))
    return find_orphans({}, {"aws": provisioner.owned()}, installation=OURS["rentune-installation"], now_s=time.time())


def report(found: Orphans, calls: Counter[str], took_s: float, cpu_s: float) -> str:
    """The result file."""
    rows = {
        "regions × instances": f"{len(REGIONS)} × {INSTANCES}",
        "found to be ours": str(len(found.strays)),
        "calls": f"{sum(calls.values())} ({', '.join(f'{name} {count}' for name, count in sorted(calls.items()))})",
        "regions asked side by side": str(AT_ONCE),
        "seconds in all": f"{took_s:.1f}",
        "CPU seconds, the server's share in them": f"{cpu_s:.1f}",
    }
    table = ["| what | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())]
    what = (
        f"The AWS program through boto3 against a server on loopback in the same process; each answer {LATENCY_S} s late "
        "(assumed). No real cloud was asked: throttling and slower pages are not in it."
    )
    return "\n\n".join(["# A search for orphans in a large account", describe_machine(), what, "\n".join(table)]) + "\n"


# ── what answers ───────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def served() -> Iterator[tuple[str, Counter[str]]]:
    """A server's URL, and what it was asked."""
    calls: Counter[str] = Counter()
    page = _answer("DescribeInstances", f"<reservationSet>{''.join(map(_instance, range(INSTANCES)))}</reservationSet>")
    regions = "".join(f"<item><regionName>{region}</regionName></item>" for region in REGIONS)
    answers = {
        "DescribeInstances": page,
        "DescribeRegions": _answer("DescribeRegions", f"<regionInfo>{regions}</regionInfo>"),
        **{name: _answer(name, f"<{element}/>") for name, element in LISTS.items()},
    }

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            [action] = asked["Action"]
            calls[action] += 1
            time.sleep(LATENCY_S)
            self.send_response(200)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(answers[action])))
            self.end_headers()
            self.wfile.write(answers[action])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", calls
    finally:
        server.shutdown()


def _answer(name: str, body: str) -> bytes:
    return f'<{name}Response xmlns="{SCHEMA}"><requestId>r</requestId>{body}</{name}Response>'.encode()


def _instance(number: int) -> str:
    """With as much of what EC2 tells as has a bearing on its size."""
    tags = "".join(f"<item><key>{key}</key><value>{value.format(number)}</value></item>" for key, value in OURS.items())
    return (
        f"<item><reservationId>r-{number:017x}</reservationId><instancesSet><item><instanceId>i-{number:017x}</instanceId>"
        f"<imageId>ami-0123456789abcdef0</imageId><instanceState><code>16</code><name>running</name></instanceState>"
        f"<privateIpAddress>10.0.0.1</privateIpAddress><ipAddress>203.0.113.1</ipAddress><instanceType>g5.xlarge</instanceType>"
        f"<tagSet>{tags}</tagSet></item></instancesSet></item>"
    )


if __name__ == "__main__":
    sys.exit(main())
