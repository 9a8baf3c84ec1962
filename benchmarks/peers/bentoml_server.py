"""BentoML: `bentoml serve benchmarks.peers.bentoml_server:Faces`, with BENCH_CORES worker processes."""

import os
from typing import Any

import bentoml

from benchmarks.peers.pipeline import Pipeline


@bentoml.service(
    workers=int(os.environ.get("BENCH_CORES", "2")),
    traffic={"timeout": 600},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Faces:
    """The pipeline as BentoML wants it."""

    def __init__(self) -> None:
        self.pipeline = Pipeline()

    @bentoml.api(route="/predict")
    def predict(self, image: str, count: int, seed: int) -> dict[str, Any]:
        """Answer one request."""
        return self.pipeline({"image": image, "count": count, "seed": seed})
