"""A closed loop of clients over keep-alive connections, light enough to leave the cores to the server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np


@dataclass(frozen=True)
class Load:
    """What one run of some clients gave.

    Attributes:
        images_per_second: over the time from the first request to the last answer.
        milliseconds: 50th, 95th and 99th percentile of the time to an answer.
        requests: answers.
        times: milliseconds to each answer.
    """

    images_per_second: float
    milliseconds: tuple[float, float, float]
    requests: int
    times: tuple[float, ...]


def request(path: str, media_type: str, body: bytes, headers: Mapping[str, str] = MappingProxyType({})) -> bytes:
    """The bytes of a POST; `headers` are sent besides those that it needs."""
    needed = {"Host": "bench", "Content-Type": media_type, "Content-Length": str(len(body))}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in {**needed, **headers}.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def run(port: int, message: bytes, clients: int, images: int, seconds: float) -> Load:
    """Let each client ask again as soon as it is answered, at least once, until the time is over."""
    return asyncio.run(_run(port, message, clients, images, seconds))


async def _run(port: int, message: bytes, clients: int, images: int, seconds: float) -> Load:
    times: list[float] = []
    start = time.perf_counter()

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
        while True:
            begun = time.perf_counter()
            writer.write(message)
            await _answer(reader)
            times.append(time.perf_counter() - begun)
            if time.perf_counter() - start > seconds:
                break
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    elapsed = time.perf_counter() - start
    p50, p95, p99 = (float(value) * 1e3 for value in np.percentile(times, [50, 95, 99]))
    return Load(len(times) * images / elapsed, (p50, p95, p99), len(times), tuple(time * 1e3 for time in times))


async def _answer(reader: asyncio.StreamReader) -> bytes:
    """Read one answer.

    Raises:
        RuntimeError: its status is not 200.
    """
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
    if b"content-length" in fields:
        body = await reader.readexactly(int(fields[b"content-length"]))
    else:
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    if b" 200 " not in head[:20]:
        raise RuntimeError(f"{head[:64]!r} {body[:200]!r}")
    return body
