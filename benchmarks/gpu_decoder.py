"""The decoder alone on a GPU: the ways in which ONNX Runtime can run it, each at several batch sizes."""

from __future__ import annotations

import importlib
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from app.core.faces import recognizer_graph
from app.core.generate import CONTROL_SIZE, IDENTITY_SIZE
from app.runtime import graphs
from app.runtime.manifest import NETWORKS
from app.settings import Settings

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
PRECISIONS = ("float32", "float16")
COMPARED = 4
"""Rows whose pictures are held against those of the CPU."""
ENGINES = Path("benchmarks/.gpu/engines")
"""Where TensorRT keeps what took it minutes to build."""


@dataclass(frozen=True)
class Way:
    """A way of running the decoder.

    Attributes:
        provider: that runs it.
        options: of the provider.
        place: where outputs are left: `host`, as `run` gives them, or `bound` to either side beforehand.
        half: options of the provider for float16, where it turns the graph itself.
        most: seconds that a step of the benchmark may take.
    """

    provider: str
    options: dict[str, Any] = field(default_factory=dict)
    place: str = "host"
    half: dict[str, Any] = field(default_factory=dict)
    most: float = 100


HEURISTIC = {"cudnn_conv_algo_search": "HEURISTIC"}
"""As the service has it."""
GRAPH = {"cudnn_conv_algo_search": "EXHAUSTIVE", "enable_cuda_graph": "1"}

WAYS = {
    "as the service does": Way(CUDA, HEURISTIC),
    "outputs bound, copied to the host": Way(CUDA, HEURISTIC, "bound to the host"),
    "inputs and outputs bound": Way(CUDA, HEURISTIC, "bound"),
    "CUDA graph": Way(CUDA, GRAPH, "bound"),
    "CUDA graph, channels last": Way(CUDA, GRAPH | {"prefer_nhwc": "1"}, "bound"),
    "TensorRT": Way(
        TENSORRT,
        {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(ENGINES), "trt_cuda_graph_enable": "1"},
        "bound",
        {"trt_fp16_enable": "1"},
        300,  # it builds an engine for each graph
    ),
}


def lacking(way: Way, precision: str, device: str) -> str:
    """Why this machine cannot run the decoder in a way; empty where it may."""
    if device == "cuda":
        there = way.provider in ort.get_available_providers()
        return "" if there else f"this build of ONNX Runtime has no {way.provider}"
    # What needs no GPU is run on the CPU in its place, so that the way through the code is known to work.
    if way.provider == TENSORRT:
        return "a dry run on the CPU has no TensorRT"
    if "enable_cuda_graph" in way.options:
        return "a dry run on the CPU has no CUDA graphs"
    if precision == "float16" and way.place != "host":
        return "a dry run does this in float32 alone"
    return ""


@cache
def graph(half: bool, scored: bool) -> bytes:
    """The decoder, with the recogniser that scores its pictures or without."""
    models = Settings().models
    path = models / NETWORKS["decoder"]
    if scored:
        model = graphs.scored(path, recognizer_graph(models), graphs.IMAGE, half)
    else:
        model = graphs.halved(graphs.read(path)) if half else graphs.read(path)
    return graphs.serialized(model, cuda=True)


def opened(way: Way, precision: str, scored: bool, batch: int, device: str) -> ort.InferenceSession:
    """A session for batches of one size.

    Raises:
        RuntimeError: it runs on something else than the way asks for.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # CUDA graphs and TensorRT want shapes that are known.
    options.add_free_dimension_override_by_name("n", batch)
    own = way.provider == TENSORRT
    model, chosen = graph(precision == "float16" and not own, scored), dict(way.options)
    if own:
        ENGINES.mkdir(parents=True, exist_ok=True)
        chosen |= way.half if precision == "float16" else {}
    if device == "cpu":
        options.intra_op_num_threads = 1  # nobody waits for a dry run, and threads that wait for each other spin
        return ort.InferenceSession(model, options, providers=[CPU])
    ort.preload_dlls()  # NVIDIA's libraries, where they came from PyPI
    if own:
        with suppress(ImportError):  # as its libraries do, which are then known to the process
            importlib.import_module("tensorrt")
    providers: list[Any] = [(way.provider, chosen)]
    providers += [(CUDA, HEURISTIC)] if own else []
    session = ort.InferenceSession(model, options, providers=[*providers, CPU])
    if session.get_providers()[0] != way.provider:
        raise RuntimeError(f"{way.provider} does not load; {session.get_providers()[0]} was taken")
    return session


def rows(batch: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Identities [batch, 70] and controls [batch, 10]; the first rows do not depend on how many there are."""
    random = np.random.default_rng(0)
    both = random.standard_normal((batch, IDENTITY_SIZE + CONTROL_SIZE)).astype(np.float32)
    return both[:, :IDENTITY_SIZE], np.clip(both[:, IDENTITY_SIZE:], -1, 1)


def runner(session: ort.InferenceSession, way: Way, batch: int, device: str) -> Any:
    """What runs one batch; it gives the images [batch, s, s, 3], or the binding that knows where all outputs are."""
    inputs = dict(zip(("identity", "control"), rows(batch), strict=True))
    if way.place == "host":
        return lambda: session.run(None, inputs)[0]
    there = "cuda" if device == "cuda" else "cpu"
    binding = session.io_binding()
    held = {name: ort.OrtValue.ortvalue_from_numpy(value, there, 0) for name, value in inputs.items()}
    for name, value in held.items():
        binding.bind_ortvalue_input(name, value)
    kept = []
    for output in session.get_outputs():
        if way.place == "bound to the host":
            binding.bind_output(output.name, "cpu")
            continue
        # A CUDA graph writes to the same place each time, so the place is fixed beforehand.
        kind = np.dtype("u1") if "uint8" in output.type else np.dtype("f4")
        kept.append(ort.OrtValue.ortvalue_from_shape_and_type([batch, *output.shape[1:]], kind, there, 0))
        binding.bind_ortvalue_output(output.name, kept[-1])

    def run() -> Any:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return binding

    # What the binding points to lives as long as it does.
    run.held = (held, kept)  # type: ignore[attr-defined]
    return run


def measured(
    way: Way, precision: str, batch: int, device: str, seconds: float, repeats: int, *, scored: bool
) -> dict[str, Any]:
    """Pictures a second of the decoder in one way, and how far its pictures are from the CPU's in float32.

    Returns:
        `pictures_per_second`, one figure a repeat; `first_s` until the first batch is back; `levels`, the mean
        difference of pixels from those of the CPU, and `provider`.
    """
    begun = time.perf_counter()
    session = opened(way, precision, scored, batch, device)
    run = runner(session, way, batch, device)
    first = run()
    ready = time.perf_counter() - begun
    drawn = (first if isinstance(first, np.ndarray) else first.copy_outputs_to_cpu()[0])[:COMPARED]
    for _ in range(2):
        run()
    rates = []
    for _ in range(repeats):
        start, done = time.perf_counter(), 0
        while not done or time.perf_counter() - start < seconds:
            run()
            done += batch
        rates.append(round(done / (time.perf_counter() - start), 2))
    levels = np.abs(drawn.astype(np.int16) - _of_the_cpu()[: len(drawn)].astype(np.int16)).mean()
    return {
        "pictures_per_second": rates,
        "first_s": round(ready, 2),
        "levels": round(float(levels), 3),
        "provider": session.get_providers()[0],
    }


@cache
def _of_the_cpu() -> NDArray[np.uint8]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(graph(half=False, scored=False), options, providers=[CPU])
    identities, controls = rows(COMPARED)
    images = session.run(None, {"identity": identities, "control": controls})[0]
    return np.asarray(images, np.uint8)
