"""The networks as tensors in and out, for those who bring their own pipeline: encoder, decoder, recogniser.

What comes in is checked before anything is computed, and what is computed goes through the same gate and the same
batchers as every other request.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from app.core.faces import EMBEDDING_SIZE
from app.core.generate import CONTROL_SIZE, IDENTITY_SIZE, Sizes
from app.core.models import Engine
from app.core.parameters import MAX_VARIANTS
from app.errors import TensorInvalid
from app.runtime.batching import Batcher, Gate

Datatype = Literal["UINT8", "FP32"]
Tensors = dict[str, NDArray[Any]]

DTYPES: dict[Datatype, np.dtype[Any]] = {"UINT8": np.dtype("u1"), "FP32": np.dtype("<f4")}
MAX_ROWS = MAX_VARIANTS


@dataclass(frozen=True)
class Tensor:
    """An input or output of a network.

    Attributes:
        name: its name.
        datatype: type of its elements.
        row: its shape without the first dimension, which is the batch.
        meaning: what it holds, in words.
        bound: largest magnitude that is taken, where there is one.
    """

    name: str
    datatype: Datatype
    row: tuple[int, ...]
    meaning: str
    bound: float | None = None

    @property
    def shape(self) -> list[int]:
        """Its shape, -1 for the batch."""
        return [-1, *self.row]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The same as NumPy has it, little-endian."""
        return DTYPES[self.datatype]

    def check_kind(self, datatype: str, shape: list[int]) -> None:
        """Check what is announced, before there is any data.

        Raises:
            TensorInvalid: another datatype or shape, or too many rows.
        """
        if datatype != self.datatype:
            raise TensorInvalid(f"input '{self.name}' is {self.datatype}, not {datatype[:16]}")
        if len(shape) != len(self.shape) or tuple(shape[1:]) != self.row:
            raise TensorInvalid(f"input '{self.name}' has shape {self.shape}, not {shape[:8]}")
        if not 1 <= shape[0] <= MAX_ROWS:
            raise TensorInvalid(f"input '{self.name}' takes 1 to {MAX_ROWS} rows, not {shape[0]}")

    def check_values(self, values: NDArray[Any]) -> None:
        """Check that values are finite and in range.

        Raises:
            TensorInvalid: some are not.
        """
        if self.bound is not None and not (np.abs(values) <= self.bound).all():
            raise TensorInvalid(f"input '{self.name}' must be finite and in [-{self.bound:g}, {self.bound:g}]")


@dataclass(frozen=True)
class TensorModel:
    """A network as others may call it."""

    name: str
    meaning: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def batcher(self, engine: Engine) -> Batcher:
        """Where it is computed."""
        batcher: Batcher = getattr(engine, self.name)
        return batcher

    def input(self, name: str) -> Tensor:
        """The input of this name.

        Raises:
            TensorInvalid: there is none.
        """
        return _named(self.inputs, name, f"model '{self.name}' has no input")

    def output(self, name: str) -> Tensor:
        """The output of this name.

        Raises:
            TensorInvalid: there is none.
        """
        return _named(self.outputs, name, f"model '{self.name}' has no output")


_PLACE = "RGB, eyes at (0.298, 0.2825) and (0.702, 0.2825), mouth centre at (0.5, 0.7325) of the side"
_BARE = "without any mark of origin: whoever makes pictures of them marks those"
_IDENTITY_MEANING = "identity latents"

NAMES = ("encoder", "decoder", "recognizer")
"""The networks that can be called."""


def tensor_models(sizes: Sizes) -> dict[str, TensorModel]:
    """The networks by name, for a model of these sizes."""
    face = Tensor("image", "UINT8", (sizes.frame, sizes.frame, 3), f"faces in the face frame: {_PLACE}")
    drawn_meaning = f"synthetic faces in the face frame: {_PLACE}; {_BARE}"
    drawn = Tensor("image", "UINT8", (sizes.image, sizes.image, 3), drawn_meaning)
    identity = Tensor("identity", "FP32", (IDENTITY_SIZE,), _IDENTITY_MEANING)
    control_meaning = "control vectors; 0 is the most faithful redrawing"
    control = Tensor("control", "FP32", (CONTROL_SIZE,), control_meaning, bound=1)
    embedding_meaning = "unit vectors; the dot product of two is their similarity, as thresholds and answers have it"
    embedding = Tensor("embedding", "FP32", (EMBEDDING_SIZE,), embedding_meaning)
    models = (
        TensorModel("encoder", "faces in the face frame to identity latents", (face,), (identity,)),
        TensorModel(
            "decoder",
            "identity latents and control vectors to synthetic faces in the face frame",
            (replace(identity, bound=100), control),
            (drawn,),
        ),
        TensorModel(
            "recognizer",
            "faces in the face frame (not the recogniser's own crop) to embeddings of unit length",
            (face,),
            (embedding,),
        ),
    )
    return dict(zip(NAMES, models, strict=True))


async def infer(gate: Gate, engine: Engine, model: TensorModel, tensors: Tensors, deadline: float) -> Tensors:
    """Compute the outputs of a network from its inputs.

    Raises:
        TensorInvalid: an input is missing, or they differ in rows, or values are out of range.
        Overloaded, DeadlineExceeded, ComputationFailed: the service could not.
    """
    rows = []
    for tensor in model.inputs:
        if tensor.name not in tensors:
            raise TensorInvalid(f"input '{tensor.name}' is missing")
        tensor.check_kind(tensor.datatype, list(tensors[tensor.name].shape))
        tensor.check_values(tensors[tensor.name])
        rows.append(tensors[tensor.name])
    counts = {len(row) for row in rows}
    if len(counts) > 1:
        raise TensorInvalid(f"all inputs need the same number of rows, not {sorted(counts)}")
    with gate.hold(counts.pop()):
        # A batcher may compute more than the network's own outputs: they come first.
        outputs = await model.batcher(engine).run(*rows, deadline=deadline)
    return {tensor.name: values for tensor, values in zip(model.outputs, outputs, strict=False)}


def _named(tensors: tuple[Tensor, ...], name: str, without: str) -> Tensor:
    for tensor in tensors:
        if tensor.name == name:
            return tensor
    raise TensorInvalid(f"{without} '{name[:64]}'; it has {', '.join(tensor.name for tensor in tensors)}")
