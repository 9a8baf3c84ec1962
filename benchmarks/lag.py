"""How long the event loop is kept from turning: the service under load, with a probe on its own loop.

The probe asks to be woken every two milliseconds, and notes two things each time: how late it was, which on a busy
machine is mostly the wait for a core, and how much of the CPU the loop's thread took meanwhile, which is what the
service itself did on the loop.

`python -m benchmarks.lag PORT` serves until SIGUSR1, then prints percentiles of both in milliseconds as JSON.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import uvicorn
import uvloop

from app.main import create_app
from app.settings import Settings

PAUSE = 0.002
PLACES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}


def measure(load: Callable[[int], object]) -> dict[str, float]:
    """Start the service with a probe, put a load on its port; returns `late p99`, `busy max` and so on, milliseconds.

    Raises:
        RuntimeError: the service did not start, or did not say what it found.
    """
    # Bound as long as the service lives, and not listening: the system gives the port to nobody else meanwhile.
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    port = kept.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.lag", str(port)], stdout=subprocess.PIPE, text=True)
    try:
        while process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
        if process.poll() is not None:
            raise RuntimeError(f"the service did not start: status {process.returncode}")
        load(port)
        process.send_signal(signal.SIGUSR1)
        output, _ = process.communicate(timeout=300)
    finally:
        process.kill()
        process.wait()
        kept.close()
    if process.returncode:
        raise RuntimeError(f"the service ended with status {process.returncode}")
    found: dict[str, float] = json.loads(output)
    return found


async def _probe(late: list[float], busy: list[float], server: uvicorn.Server) -> None:
    while not server.should_exit:
        start, used = time.perf_counter(), time.thread_time()
        await asyncio.sleep(PAUSE)
        if not server.started:
            continue
        late.append((time.perf_counter() - start - PAUSE) * 1e3)
        busy.append((time.thread_time() - used) * 1e3)


async def _serve(port: int) -> dict[str, float]:
    app = create_app(Settings(device="cpu", queue_images=8192, deadline=600))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, access_log=False))
    # The server would raise a SIGTERM anew once it has stopped, and nothing would be printed.
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, setattr, server, "should_exit", True)
    late: list[float] = []
    busy: list[float] = []
    await asyncio.gather(server.serve(), _probe(late, busy, server))
    return {
        f"{kind} {name}": round(sorted(values)[int(place * (len(values) - 1))], 2)
        for kind, values in (("late", late), ("busy", busy))
        for name, place in PLACES.items()
    }


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # the loop that the service takes
        print(json.dumps(runner.run(_serve(int(sys.argv[1])))))
