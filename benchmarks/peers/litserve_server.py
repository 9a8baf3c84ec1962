"""LitServe: `python -m benchmarks.peers.litserve_server PORT CORES`."""

import sys
from typing import Any

import litserve

from benchmarks.peers.pipeline import Pipeline


class Api(litserve.LitAPI):
    """The pipeline as LitServe wants it."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - the framework passes it
        """Load the networks, in each worker."""
        self.pipeline = Pipeline()

    def predict(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answer one request."""
        return self.pipeline(body)


if __name__ == "__main__":
    # What its guide advises for many requests a second is off by default.
    server = litserve.LitServer(
        Api(), accelerator="cpu", workers_per_device=int(sys.argv[2]), timeout=600, fast_queue=True
    )
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False)
