"""A world that listens on loopback: `python -m tests.doubles.world.serve DIALECT PORT [machines]`.

With `machines`, as root and as the first process of namespaces of its own, a real one stands behind each machine.
"""

from __future__ import annotations

import importlib
import logging
import sys
import threading
from typing import Final

from werkzeug.serving import WSGIRequestHandler, make_server, run_simple

from tests.doubles.hosting.hosts import Hosts, end_with_starter
from tests.doubles.world.app import App, Dialect
from tests.doubles.world.core import Clock, Settings, World

# For documents (RFC 5737): nobody answers there.
NOBODYS: Final = (f"198.51.100.{number % 254 + 1}" for number in range(10_000))


class Handler(WSGIRequestHandler):
    """Says nothing of what went well."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


def main(name: str, port: int, *, machines: bool) -> None:
    dialect: Dialect = importlib.import_module(f"tests.doubles.world.{name}").DIALECT
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    world = World(Settings(power_off=dialect.power_off), Clock(), NOBODYS)
    app = App(world, dialect, threading.Lock())
    if machines:
        app.hosts = Hosts(app.lock, app.ended)
        world.addresses = app.hosts.addresses
        world.outside = str(app.hosts.subnet[1])
        _listen_to_machines(app, world.outside, port)
    end_with_starter(app.hosts.end if app.hosts else lambda: None)
    run_simple("127.0.0.1", port, app, threaded=True, request_handler=Handler)


def _listen_to_machines(app: App, address: str, port: int) -> None:
    """Where they reach the API, as they would on the internet."""
    there = make_server(address, port, app, threaded=True, request_handler=Handler)
    threading.Thread(target=there.serve_forever, daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), machines="machines" in sys.argv[3:])
