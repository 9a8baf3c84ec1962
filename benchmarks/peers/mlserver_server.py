"""MLServer: `python -m benchmarks.peers.mlserver_server PORT CORES`, a worker process a core, as its guide advises."""

import asyncio
import json
import sys
from typing import Any

from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.peers.pipeline import Pipeline


class Faces(MLModel):
    """The pipeline as MLServer wants it; the answer is one tensor, the JSON of the other servers."""

    async def load(self) -> bool:
        """Load the networks, in each worker."""
        self.pipeline = Pipeline()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer one request."""
        body: dict[str, Any] = {tensor.name: tensor.data[0] for tensor in payload.inputs}
        answer = json.dumps(self.pipeline(body))
        return InferenceResponse(
            model_name=self.name, outputs=[StringCodec.encode_output("answer", [answer])], id=payload.id
        )


async def _serve(port: int, cores: int) -> None:
    settings = Settings(
        host="127.0.0.1",
        http_port=port,
        grpc_port=port + 1 if port < 65535 else port - 1,
        metrics_endpoint=None,
        parallel_workers=cores,
        debug=False,
        load_models_at_startup=False,
    )
    faces = ModelSettings(name="faces", implementation=Faces)
    await MLServer(settings).start([faces])


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
