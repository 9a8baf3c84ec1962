"""More than it can do, and for a long time: what is taken on is done in time, the rest is told so at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from app.runtime.sessions import cores
from tests.patience import PATIENCE
from tests.server import HELD, Server
from tests.torture.conftest import LONG, Record
from tests.torture.pictures import ORIGINALS, mutated

COUNT = 4
"""Images in each request."""

DEADLINE = 60

SHOWN_OUT = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
"""What a client meets whose request took thrice its deadline: the end of its connection, whatever it does with it."""

LEAST = 0.9 if LONG else 0.5
"""Of the peak, what is still done under ten times as much."""


@dataclass
class Seen:
    """What clients saw: seconds of each answer by status, and how long they looked."""

    answers: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0

    def times(self, status: int) -> list[float]:
        return sorted(seconds for each, seconds in self.answers if each == status)

    @property
    def goodput(self) -> float:
        """Requests answered with 200, a second."""
        return len(self.times(200)) / self.seconds

    @property
    def statuses(self) -> Counter[int]:
        return Counter(status for status, _ in self.answers)


def at(times: list[float], share: float) -> float:
    return times[min(len(times) - 1, int(len(times) * share))]


async def load(server: Server, seconds: float, at_once: int, rate: float = 0.0) -> Seen:
    """Ask for variants for some seconds: `at_once` clients, each again when it is answered, or `rate` a second."""
    seen = Seen()
    # Given up well before the server would: a request on a connection that is just being closed is nobody's fault.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=2)
    async with httpx.AsyncClient(base_url=server.address, timeout=PATIENCE, limits=limits) as client:

        async def ask() -> None:
            start = time.perf_counter()
            try:
                answer = await client.post(
                    f"/v1/variants?count={COUNT}", content=ORIGINALS["jpeg"], headers={"Content-Type": "image/jpeg"}
                )
            except SHOWN_OUT:
                seen.answers.append((0, time.perf_counter() - start))
                return
            if answer.status_code == 503:
                assert int(answer.headers["Retry-After"]) >= 1
                assert answer.json()["type"] == "urn:lookalike:problem:overloaded"
            seen.answers.append((answer.status_code, time.perf_counter() - start))

        async def one_after_another() -> None:
            while time.perf_counter() < end:
                await ask()

        begin = time.perf_counter()
        end = begin + seconds
        if rate:
            tasks = []
            while (now := time.perf_counter()) < end:
                due = int((now - begin) * rate) - len(tasks)
                tasks += [asyncio.create_task(ask()) for _ in range(due)]
                await asyncio.sleep(0.005)
        else:
            tasks = [asyncio.create_task(one_after_another()) for _ in range(at_once)]
        await asyncio.gather(*tasks)
        seen.seconds = time.perf_counter() - begin
    return seen


@pytest.fixture
def apart() -> tuple[set[int], set[int]]:
    """Cores for the server, and others for its clients, lest they take its time; the same one where there is one."""
    cores = sorted(os.sched_getaffinity(0))
    half = max(1, len(cores) // 2)
    return set(cores[:half]), set(cores[half:] or cores)


@contextlib.contextmanager
def on(cores: set[int]) -> Iterator[None]:
    """Run this thread, and what it starts, on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def test_ten_times_too_much(
    serve: Callable[..., Server], apart: tuple[set[int], set[int]], amount: Callable[[int, int], int], record: Record
) -> None:
    """The same work is offered in turn as it can be done and ten times over; the peak is that of the former.

    Other programs disturb now the one and now the other, most of all in the few seconds of a short run: there it has
    some tries.
    """
    servers_cores, clients_cores = apart
    with on(servers_cores):
        # As many images as are done in a few seconds, so that whoever is let in waits no longer.
        server = serve(queue_images=64, deadline=DEADLINE, threads=len(servers_cores)).until_ready()
    peaks, floods = [], []
    with on(clients_cores):
        asyncio.run(load(server, amount(1, 5), 4))
        for _ in range(amount(4, 3)):
            peaks.append(asyncio.run(load(server, amount(3, 15), 4)))
            floods.append(asyncio.run(load(server, amount(3, 40), 0, rate=10 * peaks[-1].goodput)))
            assert server.metric("lookalike_queue_images") == 0, "nothing may be left behind"
            if not LONG and floods[-1].goodput > peaks[-1].goodput * LEAST:
                peaks, floods = peaks[-1:], floods[-1:]
                break
    peak = statistics.median(each.goodput for each in peaks)
    goodput = statistics.median(each.goodput for each in floods)
    answers = Seen([answer for flood in floods for answer in flood.answers])
    taken, told = answers.times(200), answers.times(503)
    assert set(answers.statuses) == {200, 503}
    assert len(told) > len(taken), "it must have been too much"
    assert taken[-1] < DEADLINE + 2, "nothing is answered past its deadline"
    assert goodput > peak * LEAST
    assert server.ready() == 200
    # What is refused costs the server next to nothing. By its own clock: that of a client, who may hardly get to run,
    # tells how long answers lay there unread.
    lines = server.requests()
    spent = {status: sorted(line["seconds"] for line in lines if line["status"] == status) for status in (200, 503)}
    assert at(spent[503], 0.5) < at(spent[200], 0.5)
    record(
        f"10x overload, {sum(flood.seconds for flood in floods):.0f} s, in {len(floods)} turns with the peak",
        f"{len(answers.answers):,} requests",
        f"goodput {goodput / peak:.0%} of the peak of {peak:.1f}/s; accepted: p50 {at(taken, 0.5):.2f} s, "
        f"p99 {at(taken, 0.99):.2f} s; {len(told):,} x 503, p50 {at(told, 0.5) * 1000:.0f} ms, "
        f"p99 {at(told, 0.99) * 1000:.0f} ms; 0 others",
    )


def test_what_cannot_be_done_in_time_is_given_up_and_not_done_after_all(serve: Callable[..., Server]) -> None:
    server = serve(fork=True, queue_images=4096, max_requests=4096, deadline=1.5).until_ready()
    seen = asyncio.run(load(server, 2, 0, rate=60))
    server.until(lambda: server.metric("lookalike_queue_images") == 0, "nothing was queued")
    assert set(seen.statuses) <= {0, 200, 408, 504}
    assert seen.statuses[504] > 0, "it must have been too much"
    decoded = server.metric('lookalike_batch_images_sum{model="decoder"}')
    given_up = seen.statuses[504] * COUNT
    # What is asked for now is done after all that would still have been done for nobody.
    asked = 0

    def answered() -> bool:
        nonlocal asked
        asked += 1
        with contextlib.suppress(*SHOWN_OUT):
            return server.post("/v1/variants?count=1", ORIGINALS["jpeg"]).status_code == 200
        return False

    server.until(answered, "one was answered")
    assert server.metric('lookalike_batch_images_sum{model="decoder"}') <= decoded + 4 * cores() + 2 * asked, (
        "it goes on for nobody"
    )
    assert decoded < len(seen.answers) * COUNT - given_up / 4
    server.until(lambda: server.ready() == 200, "it was ready")


async def ask(client: httpx.AsyncClient, identity: list[float], chance: random.Random) -> int:
    """One request of many kinds, good or bad; its status, or 0 where the client left."""
    photo = {"content": ORIGINALS["jpeg"], "headers": {"Content-Type": "image/jpeg"}}
    match chance.randrange(10):
        case 0:
            return (await client.post("/v1/identities", **photo)).status_code  # type: ignore[arg-type]
        case 1:
            files = {"reference": ORIGINALS["jpeg"], "probe": ORIGINALS["webp"]}
            return (await client.post("/v1/compare", files=files)).status_code
        case 2:
            return (await client.post("/v1/render", json={"identity": identity, "count": 4})).status_code
        case 3:
            return (await client.post("/v1/sweep?steps=5&format=webp", **photo)).status_code  # type: ignore[arg-type]
        case 4:
            _, picture = mutated(chance.randrange(10**6) // 400 * 400)
            files = {"image": picture or b"x"}
            return (await client.post("/v1/identities", files=files)).status_code
        case 5:
            url = "/v1/variants?count=8"
            accept = {"Accept": "application/x-ndjson", "Content-Type": "image/jpeg"}
            async with client.stream("POST", url, content=ORIGINALS["jpeg"], headers=accept) as stream:
                async for _ in stream.aiter_bytes():
                    break  # and leave
            return 0
        case 6:
            return (await client.get(chance.choice(["/v1/model", "/metrics", "/", "/nowhere"]))).status_code
        case 7:
            return (await client.post("/v1/variants?count=5000", **photo)).status_code  # type: ignore[arg-type]
        case _:
            forms = chance.choice(["application/json", "application/zip", "image/png"])
            headers = {"Content-Type": "image/jpeg", "Accept": forms}
            url = f"/v1/variants?count={chance.randint(1, 8)}"
            return (await client.post(url, content=ORIGINALS["jpeg"], headers=headers)).status_code


@pytest.mark.long_only
def test_half_an_hour_of_everything(serve: Callable[..., Server], record: Record) -> None:
    """Mixed traffic, good and bad, with clients that leave: what the process holds must not grow."""
    server = serve(batch_sizes="1,2,4,8").until_ready()
    identity = server.post("/v1/identities", ORIGINALS["jpeg"]).json()["faces"][0]["identity"]
    statuses: Counter[int] = Counter()

    async def soak(seconds: float) -> float:
        """Median of the resident memory meanwhile, in MB: one reading may meet a large picture while it is open."""
        async with httpx.AsyncClient(base_url=server.address, timeout=PATIENCE) as client:

            async def go_on(number: int) -> None:
                chance = random.Random(f"{number} {time.time()}")
                while time.monotonic() < end:
                    statuses[await ask(client, identity, chance)] += 1

            async def watch() -> None:
                while time.monotonic() < end:
                    held.append(server.resident)
                    await asyncio.sleep(1)

            end = time.monotonic() + seconds
            held: list[float] = []
            await asyncio.gather(watch(), *(go_on(number) for number in range(4)))
            return statistics.median(held)

    asyncio.run(soak(120))
    descriptors, threads = server.descriptors, server.threads
    periods = [asyncio.run(soak(200)) for _ in range(9)]
    assert not statuses.keys() - {0, 200, 400, 404, 413, 422}, statuses
    server.until(lambda: server.descriptors <= descriptors + 4, "connections were closed")
    assert server.threads <= threads + 1
    # The allocator takes and gives back; what is held on to shows from the first third to the last, not in the peak.
    first, last = statistics.median(periods[:3]), statistics.median(periods[6:])
    grown = last / first - 1
    assert grown < 0.05, f"memory in each ninth of the time: {periods}"
    record(
        "soak: 30 minutes of mixed traffic after 2 to warm up",
        f"{statuses.total():,} requests",
        f"memory {first:.0f} MB in the first third, {last:.0f} in the last ({grown:+.1%}), medians; "
        f"descriptors {descriptors} and {server.descriptors}, threads {threads} and {server.threads}; "
        "0 unexpected answers",
    )


def test_a_full_queue_refuses_before_it_has_the_body(serve: Callable[..., Server], tmp_path: Path) -> None:
    switch = tmp_path / "held"
    server = serve(
        # The redrawing that likeness is judged by goes before the variants, alone. More lanes would hold a batch each.
        code=HELD.format(switch=str(switch), fewest=4),
        batch_sizes="1,4",
        threads=2,
        queue_images=64,
        max_bytes=2**24,
        deadline=PATIENCE,
    ).until_ready()
    switch.touch()
    with contextlib.ExitStack() as stack:
        body = ORIGINALS["jpeg"]
        head = (
            "POST /v1/variants?count=64 HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n"
        )
        busy = stack.enter_context(server.connect())
        busy.sendall(head.format(len(body)).encode() + body)
        server.until(lambda: server.metric("lookalike_queue_images") > 0, "it was full")
        refused = stack.enter_context(server.connect())
        refused.sendall(head.format(2**24).encode())
        said = refused.recv(65536)
        switch.unlink()
        assert busy.recv(12) == b"HTTP/1.1 200"
    assert said.startswith(b"HTTP/1.1 503")
    assert b"retry-after: " in said.lower()
