"""What the networks take and give, checked against the manifest before anything runs.

A network of another export would else be found out by odd faces, or by the first request.
"""

from __future__ import annotations

from pathlib import Path

from onnx import ModelProto, ValueInfoProto

from app.errors import ModelsInvalid
from app.runtime.graphs import EMBEDDING, IMAGE, LARGER, read
from app.runtime.manifest import DETAIL_SCALE, FILE, Manifest, Role

Shapes = dict[str, list[int | str]]
"""Shapes of tensors by name, in order; the first dimension is the batch."""


def check_signatures(models: Path, manifest: Manifest) -> None:
    """Compare the inputs and outputs of every network with what the manifest says of it, and with its sizes.

    Raises:
        ModelsInvalid: they differ.
        ValueError: a file holds no network.
    """
    for role, network in manifest.files.items():
        path = models / network.file
        found = signature(read(path, to_join=False))
        _compare(path, found, f"{FILE} says of it", (network.inputs, network.outputs))
        _compare(path, found, f"by the sizes in {FILE} they must be", _by_the_sizes(role, manifest, found))


def signature(model: ModelProto) -> tuple[Shapes, Shapes]:
    """The inputs and outputs of a network; of dimensions that vary, the names."""
    stored = {item.name for item in model.graph.initializer}
    return _shapes([value for value in model.graph.input if value.name not in stored]), _shapes(model.graph.output)


def _shapes(values: list[ValueInfoProto]) -> Shapes:
    return {
        value.name: [size.dim_value or size.dim_param for size in value.type.tensor_type.shape.dim] for value in values
    }


def _by_the_sizes(role: Role, manifest: Manifest, found: tuple[Shapes, Shapes]) -> tuple[Shapes, Shapes]:
    """What a network of this role has to take and give; detectors bring sizes of their own."""
    inputs, outputs = found
    identity: Shapes = {"identity": ["n", manifest.identity_size]}
    if role == "encoder":
        side = manifest.frame_size
        also: Shapes = {name: shape for name, shape in outputs.items() if name == EMBEDDING}
        return {IMAGE: ["n", side, side, 3]}, identity | also
    if role in ("decoder", "decoder_int8"):
        side = manifest.image_size
        return identity | {"control": ["n", manifest.control_size]}, {IMAGE: ["n", side, side, 3]}
    if role == "detail":
        side, larger = manifest.image_size, DETAIL_SCALE * manifest.image_size
        return {IMAGE: ["n", side, side, 3]}, {LARGER: ["n", larger, larger, 3]}
    if role == "recognizer":
        side = manifest.crop_size
        return {name: ["n", side, side, 3] for name in inputs}, {}
    return {}, {}


def _compare(path: Path, found: tuple[Shapes, Shapes], whose: str, expected: tuple[Shapes, Shapes]) -> None:
    """Compare inputs and outputs, the batch left out; an empty expectation is met by anything."""
    for kind, has, needs in zip(("inputs", "outputs"), found, expected, strict=True):
        if needs and _rows(has) != _rows(needs):
            raise ModelsInvalid(f"{path}: its {kind} are {has}, but {whose} {needs}")


def _rows(shapes: Shapes) -> list[tuple[str, list[int | str]]]:
    return [(name, shape[1:]) for name, shape in shapes.items()]
