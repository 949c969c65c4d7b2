"""The emulated EC2 with a machine behind each instance: `python -m tests.doubles.hosting.hosted PORT`, as root.

moto answers the API; after each answer the machines are made to be what moto says: one that runs behind each running
instance, at the address that moto hands out from then on. A machine that ends by itself ends its instance, as EC2 does:
terminated or stopped, as asked for at its launch. Security groups are not enforced, and an instance that was stopped never
starts again.
"""

from __future__ import annotations

import base64
import datetime as dt
import io
import logging
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from moto.ec2.models import ec2_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple

from tests.doubles.hosting.hosts import Hosts, end_with_starter
from tests.doubles.hosting.machines import Machine

Environ = dict[str, Any]
Respond = Callable[..., Any]

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
        self.lock = threading.Lock()
        self.hosts = Hosts(self.lock, self.ended)

    def __call__(self, environ: Environ, respond: Respond) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        asked = parse_qs(body.decode(errors="replace"))
        environ["wsgi.input"] = io.BytesIO(body)
        with self.lock:
            if asked.get("Action") == ["GetConsoleOutput"] and (machine := self.hosts.find(asked["InstanceId"][0])):
                respond("200 OK", [("Content-Type", "text/xml")])
                return [_console(machine)]
            answer = list(self.moto(environ, respond))
            self.follow()
        return answer

    def follow(self) -> None:
        """Kill what moto no longer runs, boot what it has begun to run."""
        running = {instance.id: instance for _, instance in _instances() if instance.is_running()}

        def switch_on(name: str) -> tuple[str, str]:
            address = next(self.hosts.addresses)
            running[name].nics[0].public_ip = address  # moto's own is random, hence some stranger's
            return address, _user_data(running[name])

        self.hosts.follow(running, switch_on)

    def ended(self, name: str) -> None:
        """A machine's power is off: so is its instance, unless that was the reason."""
        for backend, instance in list(_instances()):
            if instance.id == name and instance.is_running():
                terminate = instance.instance_initiated_shutdown_behavior == "terminate"
                (backend.terminate_instances if terminate else backend.stop_instances)([instance.id])


def _instances() -> Iterable[tuple[Any, Any]]:
    for _, _, backend in ec2_backends.iter_backends():
        for reservation in backend.reservations.values():
            yield from ((backend, instance) for instance in reservation.instances)


def _user_data(instance: Any) -> str:
    return base64.b64decode(str(instance.user_data or "")).decode()


def _console(machine: Machine) -> bytes:
    text = escape(base64.b64encode(machine.console.encode()).decode())
    return CONSOLE.format(id=machine.name, now=dt.datetime.now(dt.UTC).isoformat(), text=text).encode()


def main(port: int) -> None:
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    hosted = Hosted()
    end_with_starter(hosted.hosts.end)
    run_simple("127.0.0.1", port, hosted, threaded=True, request_handler=MotoRequestHandler)


if __name__ == "__main__":
    main(int(sys.argv[1]))
