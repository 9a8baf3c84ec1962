"""Ray Serve: `python -m benchmarks.peers.ray_server PORT CORES`."""

import asyncio
import signal
import sys
import threading
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.peers.pipeline import Pipeline

PORT, CORES = (int(argument) for argument in sys.argv[1:3]) if len(sys.argv) > 2 else (8000, 1)


@serve.deployment(num_replicas=CORES, max_ongoing_requests=100, ray_actor_options={"num_cpus": 1})
class Faces:
    """The pipeline as Ray Serve wants it."""

    def __init__(self) -> None:
        self.pipeline = Pipeline()
        self.lock = threading.Lock()

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        with self.lock:  # one request at a time a replica, as in the other servers
            return self.pipeline(body)

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Answer one request."""
        return await asyncio.to_thread(self._answer, await request.json())


if __name__ == "__main__":
    ray.init(num_cpus=CORES + 1, include_dashboard=False, log_to_driver=False, logging_level="error")
    serve.start(http_options={"host": "127.0.0.1", "port": PORT, "request_timeout_s": 600})
    serve.run(Faces.bind(), route_prefix="/predict")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
