"""How long the event loop is kept from turning: the service with a probe on its own loop.

`python -m benchmarks.lag PORT` serves until SIGTERM, then prints the lags in milliseconds as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvicorn

from app.main import create_app
from app.settings import Settings

PAUSE = 0.002


async def _probe(lags: list[float], server: uvicorn.Server) -> None:
    while not server.should_exit:
        start = time.perf_counter()
        await asyncio.sleep(PAUSE)
        if server.started:
            lags.append((time.perf_counter() - start - PAUSE) * 1e3)


async def _serve(port: int) -> list[float]:
    app = create_app(Settings(device="cpu", queue_images=8192, deadline=600))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, access_log=False))
    lags: list[float] = []
    await asyncio.gather(server.serve(), _probe(lags, server))
    return lags


if __name__ == "__main__":
    found = sorted(asyncio.run(_serve(int(sys.argv[1]))))
    places = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
    print(json.dumps({name: round(found[int(place * (len(found) - 1))], 2) for name, place in places.items()}))
