"""A provider plugin in Python: the SDK's own gRPC service, driven by a table of resource kinds.

It is a double, never a vendor's plugin: no waiters, retries or secret handling of theirs is imitated. It says
acceptSecrets = false, so the engine sends plain values and itself marks as secret what was secret in the program.
"""

from __future__ import annotations

import os
import secrets
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf import any_pb2, empty_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc, status_pb2

from tests.doubles.faults import Fault, Faults
from tests.doubles.plugins.wire import UNKNOWN, Properties, decode, encode

FAULTS_VARIABLE: Final = "RENTUNE_TEST_DOUBLE"  # the folder of `Faults`


@dataclass(frozen=True)
class Kind:
    """How one resource type is imitated. The functions get the cloud's client and plain properties."""

    accepts: frozenset[str]  # every input it acts on; any other input fails the check
    required: frozenset[str]
    replaces: frozenset[str]  # a change of these needs a new resource
    computed: tuple[str, ...]  # outputs unknown before the create
    create: Callable[[Any, Properties], str]
    read: Callable[[Any, str], Properties | None]  # None: gone
    update: Callable[[Any, str, Properties], None]
    delete: Callable[[Any, str], None]
    auto_name: str | None = None


@dataclass(frozen=True)
class Double:
    """A whole provider: its kinds, its lookups, and how to reach the emulated cloud from the provider's configuration."""

    name: str
    version: str
    kinds: Mapping[str, Kind]
    lookups: Mapping[str, Callable[[Any, Properties], Properties]]
    connect: Callable[[Properties], Any]


class Servicer(provider_pb2_grpc.ResourceProviderServicer):
    """Answers the engine."""

    def __init__(self, double: Double, faults: Faults) -> None:
        self.double = double
        self.faults = faults
        self.cloud: Any = None

    def Handshake(self, request: Any, context: Any) -> Any:  # noqa: N802
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=False)

    def GetPluginInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        return plugin_pb2.PluginInfo(version=self.double.version)

    def CheckConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_NONE)

    def Configure(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.cloud = self.double.connect(decode(request.args))
        return provider_pb2.ConfigureResponse(acceptSecrets=False, supportsPreview=True)

    def Invoke(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.faults.note("before", "invoke", request.tok.rsplit(":", 1)[-1])
        answer = self._answered(context, lambda: self.double.lookups[request.tok](self.cloud, decode(request.args)))
        return provider_pb2.InvokeResponse(**{"return": encode(answer)})

    def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        kind, olds, news = self.double.kinds[request.type], decode(request.olds), decode(request.news)
        failures = [(name, f"the double does not imitate {name}") for name in sorted(news.keys() - kind.accepts)]
        failures += [(name, "is required") for name in sorted(kind.required - news.keys())]
        if kind.auto_name and kind.auto_name not in news:
            news[kind.auto_name] = olds.get(kind.auto_name, f"{request.name}-{secrets.token_hex(4)[:7]}")
        return provider_pb2.CheckResponse(
            inputs=encode(news),
            failures=[provider_pb2.CheckFailure(property=name, reason=reason) for name, reason in failures],
        )

    def Diff(self, request: Any, context: Any) -> Any:  # noqa: N802
        olds, news = decode(request.old_inputs), decode(request.news)
        names = {name for name in olds.keys() | news.keys() if not name.startswith("__")}
        changed = {name for name in names if olds.get(name) != news.get(name)} - set(request.ignoreChanges)
        response = provider_pb2.DiffResponse
        return response(
            changes=response.DIFF_SOME if changed else response.DIFF_NONE,
            diffs=sorted(changed),
            replaces=sorted(changed & self.double.kinds[request.type].replaces),
            deleteBeforeReplace=True,
        )

    def Create(self, request: Any, context: Any) -> Any:  # noqa: N802
        kind, inputs = self.double.kinds[request.type], decode(request.properties)
        if request.preview:
            return provider_pb2.CreateResponse(properties=encode(inputs | dict.fromkeys(kind.computed, UNKNOWN)))
        short = _short(request.type)
        self._strike(context, "before", "create", short)
        id = self._answered(context, lambda: kind.create(self.cloud, inputs))
        outputs = encode(inputs | (kind.read(self.cloud, id) or {}))
        self._strike(context, "after", "create", short, id, unwell=_unwell(id, outputs, request.properties))
        return provider_pb2.CreateResponse(id=id, properties=outputs)

    def Read(self, request: Any, context: Any) -> Any:  # noqa: N802
        short = _short(request.type)
        self._strike(context, "before", "read", short, request.id)
        found = self._answered(context, lambda: self.double.kinds[request.type].read(self.cloud, request.id))
        if found is None:
            return provider_pb2.ReadResponse()
        outputs = decode(request.properties) | found
        return provider_pb2.ReadResponse(id=request.id, properties=encode(outputs), inputs=request.inputs)

    def Update(self, request: Any, context: Any) -> Any:  # noqa: N802
        kind, news = self.double.kinds[request.type], decode(request.news)
        if not request.preview:
            self._strike(context, "before", "update", _short(request.type), request.id)
            self._answered(context, lambda: kind.update(self.cloud, request.id, news))
        return provider_pb2.UpdateResponse(properties=encode(decode(request.olds) | news))

    def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        short = _short(request.type)
        self._strike(context, "before", "delete", short, request.id)
        self._answered(context, lambda: self.double.kinds[request.type].delete(self.cloud, request.id))
        self._strike(context, "after", "delete", short, request.id)
        return empty_pb2.Empty()

    def Cancel(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.faults.note("before", "cancel", "provider")
        return empty_pb2.Empty()

    def _answered(self, context: Any, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except Exception as error:  # noqa: BLE001 - whatever the cloud says goes to the engine as text
            context.abort(grpc.StatusCode.UNKNOWN, str(error))

    def _strike(self, context: Any, moment: Any, operation: str, kind: str, id: str = "", unwell: Any = None) -> None:
        try:
            self.faults.note(moment, operation, kind, id)
        except Fault as fault:
            if fault.created_but_unwell:
                unwell.reasons.append(str(fault))
                context.set_trailing_metadata((("grpc-status-details-bin", _details(str(fault), unwell)),))
            context.abort(grpc.StatusCode.UNKNOWN, str(fault))


def _short(type: str) -> str:
    return type.rsplit(":", 1)[-1]


def _unwell(id: str, outputs: Any, inputs: Any) -> Any:
    return provider_pb2.ErrorResourceInitFailed(id=id, properties=outputs, inputs=inputs)


def _details(text: str, unwell: Any) -> bytes:
    detail = any_pb2.Any()
    detail.Pack(unwell)
    status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=text, details=[detail])
    return bytes(status.SerializeToString())


def serve(double: Double) -> None:
    """Print the port, as the engine expects, and answer until the engine hangs up."""
    faults = Faults(Path(os.environ[FAULTS_VARIABLE]))
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(Servicer(double, faults), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    threading.Thread(target=_end_with_engine, daemon=True).start()
    server.wait_for_termination()


def _end_with_engine() -> None:
    sys.stdin.buffer.read()  # returns when the engine is gone, however it went
    os._exit(0)
