"""Weights as TensorFlow.js stores them: a manifest in JSON, and files of numbers one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def read_manifest(groups: list[dict[str, Any]], folder: Path) -> dict[str, NDArray[Any]]:
    """Every array of a `weightsManifest` by name, in the type it is declared with.

    Stored as float16 or as uint8 with a scale and a least value (affine quantisation) is widened.

    Args:
        groups: the manifest.
        folder: where its files lie.
    """
    arrays = {}
    for group in groups:
        data = b"".join((folder / name).read_bytes() for name in group["paths"])
        offset = 0
        for entry in group["weights"]:
            quantized = entry.get("quantization", {})
            stored = np.dtype(quantized.get("dtype", entry["dtype"]))
            count = int(np.prod(entry["shape"]))
            values = np.frombuffer(data, stored, count, offset).reshape(entry["shape"]).astype(entry["dtype"])
            if "scale" in quantized:
                values = values * np.float32(quantized["scale"]) + np.float32(quantized["min"])
            arrays[entry["name"]] = values
            offset += count * stored.itemsize
    return arrays
