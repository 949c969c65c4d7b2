"""A TCP proxy that delays, throttles and cuts: the line between a controller and its box."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

CHUNK_BYTES = 256 * 1024


@dataclass
class Proxy:
    """A line to `target_port` on loopback that can be long (`delay_s` each way), narrow and cut. Use it in a `with`."""

    target_port: int
    delay_s: float = 0.0
    bytes_per_s: float = math.inf  # of each connection, each way
    cut_every_s: float = math.inf  # then all that stand are broken; new ones are let in at once
    num_cuts: int = 0  # of those that `cut_every_s` made
    port: int = 0
    passed_bytes: int = 0  # towards the target
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _is_cut: bool = False

    def __enter__(self) -> Proxy:
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(ready,), daemon=True)
        self._thread.start()
        ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._finish.set)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Break every connection, and each new one at once, until `heal`."""
        self._is_cut = True
        self._loop.call_soon_threadsafe(self._break)

    def heal(self) -> None:
        self._is_cut = False

    def _break(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    def _serve(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._main(ready))

    async def _main(self, ready: threading.Event) -> None:
        self._finish = asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=CHUNK_BYTES)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        while not await self._finished(within_s=self.cut_every_s):
            self.num_cuts += bool(self._writers)
            self._break()
        server.close()
        self._break()
        pumps = asyncio.all_tasks() - {asyncio.current_task()}
        if pumps:
            await asyncio.wait(pumps, timeout=5.0)  # broken connections end them

    async def _finished(self, *, within_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self._finish.wait(), None if math.isinf(within_s) else within_s)
        return False

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.target_port, limit=CHUNK_BYTES)
        self._writers |= {writer, there_writer}
        await asyncio.gather(self._pump(reader, there_writer, outward=True), self._pump(there_reader, writer, outward=False))
        self._writers -= {writer, there_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, outward: bool) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sender = asyncio.create_task(self._send(queue, writer))
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(CHUNK_BYTES):
                self.passed_bytes += len(chunk) * outward
                queue.put_nowait((self._loop.time() + self.delay_s, chunk))
        queue.put_nowait((self._loop.time() + self.delay_s, b""))
        await sender

    async def _send(self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                due_s, chunk = await queue.get()
                await asyncio.sleep(max(0.0, due_s - self._loop.time()))
                if not chunk:
                    break
                writer.write(chunk)
                await writer.drain()
                await asyncio.sleep(len(chunk) / self.bytes_per_s)
        writer.close()


@contextlib.contextmanager
def proxied(target_port: int, *, delay_s: float = 0.0) -> Iterator[Proxy]:
    """A proxy in front of a port of loopback."""
    with Proxy(target_port, delay_s=delay_s) as proxy:
        yield proxy
