"""The models in force: loaded, warmed, and behind their batchers.

An engine is used as a whole: a request that began with one finishes with it, even when another takes its place.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

from app.batching import Batcher
from app.faces import Detector
from app.generator import Generator
from app.manifest import CARD, Manifest, read_manifest
from app.metrics import Metrics
from app.settings import Settings

CPU_BATCHES = (1, 2, 4, 8)
"""On a CPU an image costs the same in any batch, so small ones keep the wait short."""
GPU_BATCHES = (1, 4, 16, 64)


class Engine:
    """A verified model directory, ready to compute.

    Attributes:
        manifest: what the directory says about itself.
        card: the model card, Markdown.
        detector: finds faces; to be called in a thread.
        encoder: batcher, faces [n, 128, 128, 3] -> identities [n, 70], embeddings [n, 192].
        decoder: batcher, identities [n, 70], controls [n, 10] -> images [n, 128, 128, 3], embeddings [n, 192].
        recognizer: batcher, faces [n, 128, 128, 3] -> embeddings [n, 192].
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Verify, load and warm; blocks for a second or so.

        Raises:
            ModelsInvalid: the directory cannot be served.
            ProviderUnavailable: the device that was asked for cannot be had.
        """
        models = settings.models
        self.manifest: Manifest = read_manifest(models)
        card = models / CARD
        self.card = card.read_text(encoding="utf-8") if card.exists() else ""
        # Detection runs in the image threads, several at a time, so each takes one core.
        self.detector = Detector(models, settings.device, threads=1)
        self.generator = Generator(models, settings.device, settings.threads)
        gpu = self.device == "cuda"
        sizes = settings.batch_sizes or (GPU_BATCHES if gpu else CPU_BATCHES)
        self.generator.warm(sizes)
        self.detector.warm()
        # A network uses all its cores or the whole GPU, so one at a time is fastest.
        self._compute = ThreadPoolExecutor(1, thread_name_prefix="compute")
        batcher = partial(
            Batcher, sizes=sizes, pad=gpu, executor=self._compute, observe=metrics.batch, queued=metrics.queue
        )
        self.encoder = batcher("encoder", self.generator.encode)
        self.decoder = batcher("decoder", self.generator.decode)
        self.recognizer = batcher("recognizer", lambda faces: (self.generator.recognizer(faces),))
        self._batchers = (self.encoder, self.decoder, self.recognizer)
        metrics.model(self.manifest.name, self.manifest.version, self.device)

    @property
    def device(self) -> str:
        """Where the decoder runs: `cpu` or `cuda`."""
        return self.generator.decoder.device

    def start(self) -> None:
        """Start the batchers on the running event loop."""
        for batcher in self._batchers:
            batcher.start()

    async def close(self) -> None:
        """Stop the batchers."""
        for batcher in self._batchers:
            await batcher.close()
        self._compute.shutdown(wait=False)
