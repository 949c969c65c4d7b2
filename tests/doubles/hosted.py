"""The emulated EC2 with a machine behind each instance: `python -m tests.doubles.hosted PORT`, as root.

It runs as the first process of namespaces of its own (tests/doubles/emulator.py sees to that). moto answers the API; after each
answer the machines are made to be what moto says: one that runs behind each running instance, at the address that moto hands
out from then on. A machine that ends by itself ends its instance, as EC2 does: terminated or stopped, as asked for at its
launch. Security groups are not enforced, and an instance that was stopped never starts again.
"""

from __future__ import annotations

import base64
import datetime as dt
import io
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from moto.ec2.models import ec2_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple

from tests.doubles.machines import CONTROL, Machine, boot, group_of, lay_network, remove_groups, search_path

Environ = dict[str, Any]
Respond = Callable[..., Any]

END_S: Final = 10.0
CONSOLE: Final = """<?xml version="1.0" encoding="UTF-8"?>
<GetConsoleOutputResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
<requestId>console</requestId><instanceId>{id}</instanceId><timestamp>{now}</timestamp><output>{text}</output>
</GetConsoleOutputResponse>
"""


class Hosted:
    """moto's application with the machines beside it; one request at a time."""

    def __init__(self) -> None:
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.moto.debug = True
        self.subnet = lay_network()
        self.addresses = (str(address) for address in list(self.subnet.hosts())[1:])
        self.machines: dict[str, Machine] = {}  # those that run
        self.past: dict[str, Machine] = {}  # EC2 shows what was on their console for a while
        self.lock = threading.Lock()

    def __call__(self, environ: Environ, respond: Respond) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        asked = parse_qs(body.decode(errors="replace"))
        environ["wsgi.input"] = io.BytesIO(body)
        with self.lock:
            if asked.get("Action") == ["GetConsoleOutput"] and (machine := self.find(asked["InstanceId"][0])):
                respond("200 OK", [("Content-Type", "text/xml")])
                return [_console(machine)]
            answer = list(self.moto(environ, respond))
            self.follow()
        return answer

    def find(self, name: str) -> Machine | None:
        return self.machines.get(name) or self.past.get(name)

    def follow(self) -> None:
        """Kill what moto no longer runs, boot what it has begun to run."""
        running = {instance.id: instance for _, instance in _instances() if instance.is_running()}
        for name in self.machines.keys() - running.keys():
            self.past[name] = self.machines.pop(name)
            self.past[name].kill()
        for name in running.keys() - self.machines.keys():
            address = next(self.addresses)
            running[name].nics[0].public_ip = address  # moto's own is random, hence some stranger's
            self.machines[name] = boot(name, address, self.subnet, _user_data(running[name]), ended=self.ended)

    def ended(self, machine: Machine) -> None:
        """Its power is off: so is its instance, unless that was the reason."""
        with self.lock:
            self.past[machine.name] = self.machines.pop(machine.name, machine)
            for backend, instance in list(_instances()):
                if instance.id == machine.name and instance.is_running():
                    terminate = instance.instance_initiated_shutdown_behavior == "terminate"
                    (backend.terminate_instances if terminate else backend.stop_instances)([instance.id])

    def end(self) -> None:
        """Nothing of it stays: processes and mounts end with this one, the control groups here."""
        with self.lock:
            running = [self.machines.pop(name) for name in list(self.machines)]
        for machine in running:
            machine.kill()
            machine.gone.wait(END_S)
        remove_groups(group_of())


def _instances() -> Iterable[tuple[Any, Any]]:
    for _, _, backend in ec2_backends.iter_backends():
        for reservation in backend.reservations.values():
            yield from ((backend, instance) for instance in reservation.instances)


def _user_data(instance: Any) -> str:
    return base64.b64decode(str(instance.user_data or "")).decode()


def _console(machine: Machine) -> bytes:
    text = escape(base64.b64encode(machine.console.encode()).decode())
    return CONSOLE.format(id=machine.name, now=dt.datetime.now(dt.UTC).isoformat(), text=text).encode()


def prepare() -> None:
    """Places that nobody outside sees."""
    for what, where in (("tmpfs", Path("/run")), ("cgroup2", CONTROL)):
        where.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", what, what, str(where)], check=True)


def _end_with_starter(hosted: Hosted) -> None:
    sys.stdin.buffer.read()  # returns when whoever started this is done or gone
    hosted.end()
    os._exit(0)


def main(port: int) -> None:
    os.environ["PATH"] = search_path()
    prepare()
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    hosted = Hosted()
    threading.Thread(target=_end_with_starter, args=(hosted,), daemon=True).start()
    run_simple("127.0.0.1", port, hosted, threaded=True, request_handler=MotoRequestHandler)


if __name__ == "__main__":
    main(int(sys.argv[1]))
