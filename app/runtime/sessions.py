"""ONNX Runtime sessions: execution providers, options, inference.

Asked for a provider that it cannot load, ONNX Runtime logs a line and takes the CPU. A service that was deployed on a
GPU must not do that silently, so `Network` compares what it got with what was asked.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from app.errors import ProviderUnavailable

Device = Literal["auto", "cpu", "cuda"]

_PROVIDER = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
CPU_INFO = Path("/proc/cpuinfo")
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


class Network:
    """One ONNX file, loaded and ready to run, from several threads at once if need be.

    Args:
        path: the ONNX file.
        device: `cpu`, `cuda`, or `auto` (CUDA where it loads, else the CPU).
        threads: intra-op threads on the CPU; 0 lets ONNX Runtime decide.
        model: a graph made of that file, serialised, to run in its place.

    Raises:
        ProviderUnavailable: `device` is `cuda` and CUDA does not load.
    """

    def __init__(self, path: Path, device: Device = "auto", threads: int = 0, model: bytes | None = None) -> None:
        self.path = path
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        # Spinning threads steal the cores from the threads that decode and encode images.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = ort.InferenceSession(model or path, options, providers=_providers(device))
        self.device: Literal["cpu", "cuda"] = "cuda" if self.session.get_providers()[0] == _PROVIDER["cuda"] else "cpu"
        if device == "cuda" and self.device != "cuda":
            raise ProviderUnavailable(
                f"{path.name}: the CUDA execution provider was asked for but cannot be loaded; "
                "install the extra 'cuda' and check the driver, or set the device to 'auto' or 'cpu'"
            )
        self.inputs = {value.name: tuple(value.shape) for value in self.session.get_inputs()}
        self.outputs = {value.name: tuple(value.shape) for value in self.session.get_outputs()}

    def __call__(self, *arrays: NDArray[np.generic]) -> list[NDArray[np.generic]]:
        """Run the network on its inputs, in the order of the graph; returns its outputs in that order."""
        outputs = self.session.run(None, dict(zip(self.inputs, arrays, strict=True)))
        return [np.asarray(output) for output in outputs]


def _providers(device: Device) -> list[str | tuple[str, dict[str, str]]]:
    cuda = (_PROVIDER["cuda"], {"cudnn_conv_algo_search": "HEURISTIC"})
    if wants_cuda(device):
        ort.preload_dlls()  # NVIDIA's libraries, where they came from PyPI
        return [cuda, _PROVIDER["cpu"]]
    return [_PROVIDER["cpu"]]


def wants_cuda(device: Device) -> bool:
    """Whether CUDA will be asked for."""
    return device == "cuda" or (device == "auto" and _gpu_present())


def cores() -> int:
    """CPU cores that this process may keep busy: those it may run on, or fewer where its container has a quota.

    The quota is that of control groups version 2 (Linux, `cpu.max`: microseconds in each period, or `max`), rounded up.
    """
    count = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    try:
        quota, period = CPU_QUOTA.read_text(encoding="ascii").split()
        return count if quota == "max" else max(1, min(count, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):
        return count


def multiplies_bytes() -> bool:
    """Whether the CPU has VNNI instructions. Without them ONNX Runtime's int8 gains little, and its sums saturate."""
    try:
        words = CPU_INFO.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return False
    return not {"avx512_vnni", "avx_vnni"}.isdisjoint(words)


def _gpu_present() -> bool:
    """Whether a GPU is there at all: without one, asking for CUDA costs a second and prints an error."""
    return Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()
