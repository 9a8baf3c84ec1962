"""The models in force: loaded, warmed, and behind their batchers.

An engine is used as a whole: a request that began with one finishes with it, even when another takes its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal

from app.core.faces import Detector
from app.core.generate import CONTROL_SIZE, IDENTITY_SIZE, Generator, Sizes
from app.errors import ModelsInvalid, NotReady, ProviderUnavailable
from app.runtime.batching import Batcher
from app.runtime.manifest import CARD, FILE, NETWORKS, Manifest, read_manifest
from app.runtime.sessions import cores, multiplies_bytes, wants_cuda
from app.runtime.signatures import check_signatures
from app.settings import Settings
from app.telemetry.metrics import Metrics

CPU_BATCHES = (1, 2, 3, 4, 5)
"""On a CPU an image costs hardly less in a larger batch, so small ones keep the wait short. A face redrawn and
eight variants of it are a batch of 5 and one of 4: a core each, of two. With 3 no row needs to be left alone, which in
int8 would cost as much as two."""
GPU_BATCHES = (1, 4, 16, 64)


class Engine:
    """A verified model directory, ready to compute.

    Attributes:
        manifest: what the directory says about itself.
        sizes: f of the faces that are taken, s of the pictures that are drawn, and the recogniser's crop.
        card: the model card, Markdown.
        precision: how the decoder computes.
        detector: finds faces; to be called in a thread.
        encoder: batcher, faces [n, f, f, 3] -> identities [n, 70], embeddings [n, 192].
        decoder: batcher, identities [n, 70], controls [n, 10] -> images [n, s, s, 3], embeddings [n, 192].
        recognizer: batcher, faces [n, f, f, 3] -> embeddings [n, 192].
        judge: batcher, pictures [n, s, s, 3] as they are drawn -> embeddings [n, 192].
        detail: batcher, pictures [n, s, s, 3] -> the same with more detail [n, 2s, 2s, 3]; None where there is none.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Verify, load and warm; blocks for a second or so.

        Raises:
            ModelsInvalid: the directory cannot be served.
            ProviderUnavailable: the device that was asked for cannot be had.
        """
        # A link is followed once, so that one that is turned to another directory meanwhile cannot mix two exports.
        models = settings.models.resolve()
        self.manifest: Manifest = read_manifest(models)
        card = models / CARD
        self.card = card.read_text(encoding="utf-8") if card.exists() else ""
        self.sizes = Sizes(self.manifest.frame_size, self.manifest.image_size, self.manifest.crop_size)
        try:
            _check_contract(models, self.manifest)
            check_signatures(models, self.manifest)
            # Detection runs in the image threads, several at a time, so each takes one core.
            self.detector = Detector(models, settings.device, threads=1)
            role = decoder_role(settings, self.manifest)
            half = settings.precision == "float16"
            self.precision = "int8" if role == "decoder_int8" else "float16" if half else "float32"
            # Batches side by side, a thread each, get more of the cores than threads that share one batch. A lone
            # request would have its face encoded some ms sooner by two; under load they wait for each other.
            threads = settings.threads or max(1, cores() // settings.workers)
            detail = "detail" in self.manifest.files
            self.generator = Generator(models, settings.device, 1, NETWORKS[role], half, self.sizes, detail)
            gpu = self.device == "cuda"
            sizes = settings.batch_sizes or (GPU_BATCHES if gpu else CPU_BATCHES)
            # A batch uses one core, or the whole GPU.
            lanes = 1 if gpu else threads
            self._compute = ThreadPoolExecutor(lanes, thread_name_prefix="compute")
            # The largest in all lanes at a time: then memory is what it will be under load. Of the others a GPU chooses
            # its algorithms once each; a CPU has nothing to choose.
            list(self._compute.map(self.generator.warm, [sizes[-1]] * lanes))
            list(self._compute.map(self.generator.warm, sizes[:-1] if gpu else ()))
            self.detector.warm()
        except (ModelsInvalid, ProviderUnavailable):
            raise
        except Exception as error:
            raise ModelsInvalid(f"{models}: the networks cannot be run ({str(error).partition(chr(10))[0]})") from error
        if read_manifest(models) != self.manifest:
            raise ModelsInvalid(f"{models}: was changed while it was being loaded")
        batcher = _batchers(sizes, gpu, self._compute, lanes, metrics)
        generator = self.generator
        self.encoder = batcher("encoder", generator.encode)
        self.decoder = batcher("decoder", generator.decode, sizes=generator.drawn_together(sizes))
        self.recognizer = batcher("recognizer", lambda faces: (generator.recognizer(faces),))
        self.judge = self.recognizer
        if generator.judge is not generator.recognizer:
            self.judge = batcher("judge", lambda faces: (generator.judge(faces),))
        self.detail = batcher("detail", generator.detail) if generator.detail else None
        every = (self.encoder, self.decoder, self.recognizer, self.judge, self.detail)
        self._batchers = {one for one in every if one}
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


class ModelsInForce:
    """The engine that serves, and those that serve no more but may still be in use.

    Args:
        settings: limits, directories, sizes.
        metrics: where engines count.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._engine: Engine | None = None
        self._reloading = asyncio.Lock()
        self._retired: dict[asyncio.Task[None], Engine] = {}

    @property
    def loaded(self) -> bool:
        """Whether there are any."""
        return self._engine is not None

    @property
    def engine(self) -> Engine:
        """The models in force.

        Raises:
            NotReady: they are still being loaded.
        """
        if self._engine is None:
            raise NotReady("The models are still being loaded.")
        return self._engine

    async def load(self) -> Engine:
        """Load and warm what the model directory holds, and serve it from now on.

        Raises:
            ModelsInvalid, ProviderUnavailable: see `Engine`.
        """
        engine = await asyncio.to_thread(Engine, self._settings, self._metrics)
        engine.start()
        self._engine = engine
        return engine

    async def reload(self) -> tuple[Manifest, Manifest]:
        """Serve what the model directory holds now; returns the manifests before and after, equal if nothing changed.

        No request notices: whatever began with the old models finishes with them. Where the new ones cannot be served
        the old ones stay.

        Raises:
            ModelsInvalid, ProviderUnavailable: see `Engine`.
            NotReady: the first models are still being loaded.
        """
        async with self._reloading:
            old = self.engine
            if await asyncio.to_thread(read_manifest, self._settings.models) == old.manifest:
                return old.manifest, old.manifest
            engine = await self.load()
            retirement = asyncio.create_task(self._retire(old))
            self._retired[retirement] = old
            retirement.add_done_callback(self._retired.pop)
            return old.manifest, engine.manifest

    async def _retire(self, engine: Engine) -> None:
        # No request outlives its deadline, so by then none uses the old models.
        await asyncio.sleep(self._settings.deadline + 1)
        await engine.close()

    async def close(self) -> None:
        """Stop all of them."""
        for retirement, engine in list(self._retired.items()):
            retirement.cancel()
            await engine.close()
        if self._engine:
            await self._engine.close()


def decoder_role(settings: Settings, manifest: Manifest) -> Literal["decoder", "decoder_int8"]:
    """Which of a model's decoders is to be served on this machine.

    Raises:
        ModelsInvalid, ProviderUnavailable: int8 or float16 was asked for and cannot be had.
    """
    there, cuda = "decoder_int8" in manifest.files, wants_cuda(settings.device)
    if settings.precision == "float16" and not cuda:
        raise ProviderUnavailable("float16 is for CUDA: set the device to cuda, or the precision to auto")
    if settings.precision == "int8":
        if not there:
            raise ModelsInvalid(f"{settings.models}: has no decoder in int8; export it, or set the precision to auto")
        if cuda:
            raise ProviderUnavailable("int8 is for the CPU: set the device to cpu, or the precision to auto")
        return "decoder_int8"
    fast = settings.precision == "auto" and there and not cuda and multiplies_bytes()
    return "decoder_int8" if fast else "decoder"


def _batchers(
    sizes: tuple[int, ...], gpu: bool, executor: ThreadPoolExecutor, lanes: int, metrics: Metrics
) -> Callable[..., Batcher]:
    """What makes the batcher of a network, given its name and what runs it."""
    return partial(
        Batcher, sizes=sizes, pad=gpu, executor=executor, lanes=lanes, observe=metrics.batch, queued=metrics.queue
    )


def _check_contract(models: Path, manifest: Manifest) -> None:
    """Check the sizes that are part of the API: clients send controls and keep identities."""
    for name, needed in (("identity_size", IDENTITY_SIZE), ("control_size", CONTROL_SIZE)):
        if (found := getattr(manifest, name)) != needed:
            raise ModelsInvalid(f"{models / FILE}: {name} is {found}, but the API has {needed}")
