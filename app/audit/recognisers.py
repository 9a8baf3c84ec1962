"""The recogniser that is audited: the service's own, a function, an ONNX file or an address, all behind one contract.

A plug-in is one of two functions:

    def embed(pictures: list[np.ndarray]) -> embeddings [n, d]        # scored by their cosine
    def score(first: list[np.ndarray], second: list[np.ndarray]) -> scores [n]   # higher is more alike

A picture is [h, w, 3] uint8 RGB. Where a recogniser finds no face in a picture its row may be None, which is counted as
a failure to extract; anything else that is no answer ends the run with the name of the file.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from app.audit.crops import Crop, resized
from app.core.faces import EMBEDDING_SIZE, Bytes, Floats, Recognizer
from app.errors import RecogniserFailed
from app.runtime.manifest import read_manifest
from app.runtime.sessions import Network
from app.settings import Settings

OWN = "own"
OWN_NAME = "the service's own ("
"""What the name of the service's own begins with in a report; nobody else's has the form."""


@dataclass(frozen=True)
class Recogniser:
    """A recogniser as the audit asks it; one of `embed` and `score` is there.

    Attributes:
        name: what the report calls it.
        key: what tells it from others, and from itself after a change.
        crop: what it is shown.
        embed: pictures -> a vector [d] or None each.
        score: two lists of pictures -> a number or None for each pair.
    """

    name: str
    key: str
    crop: Crop
    embed: Callable[[list[Bytes]], Any] | None = None
    score: Callable[[list[Bytes], list[Bytes]], Any] | None = None


@dataclass(frozen=True)
class Preprocessing:
    """What an ONNX network wants to be given.

    Attributes:
        size: side of its input; None takes what the network says.
        mean, scale: a level x of 0..255 enters as (x - mean) / scale.
        layout: `nchw` or `nhwc`; None takes what the network says.
        colours: `rgb` or `bgr`.
    """

    size: int | None = None
    mean: float = 127.5
    scale: float = 127.5
    layout: Literal["nchw", "nhwc"] | None = None
    colours: Literal["rgb", "bgr"] = "rgb"


def own(settings: Settings) -> Recogniser:
    """The service's own recogniser, of faces as they are cut and of pictures as they are drawn.

    Raises:
        ModelsInvalid, ProviderUnavailable: it cannot be had.
    """
    manifest = read_manifest(settings.models)
    networks = {
        side: Recognizer(settings.models, settings.device, settings.threads, side, manifest.crop_size)
        for side in {manifest.frame_size, manifest.image_size}
    }

    def embed(faces: list[Bytes]) -> Floats:
        found = np.zeros((len(faces), EMBEDDING_SIZE), np.float32)
        for side, network in networks.items():
            rows = [row for row, face in enumerate(faces) if len(face) == side]
            if rows:
                found[rows] = network(np.stack([faces[row] for row in rows]))
        return found

    key = f"{manifest.files['recognizer'].sha256} {manifest.crop_size}"
    name = f"{OWN_NAME}{manifest.name} {manifest.version})"
    return Recogniser(name, key, "frame", embed)


def from_module(text: str, crop: Crop | None) -> Recogniser:
    """A function of the user's, given as `module:function`; the current folder is looked in as well.

    Raises:
        RecogniserFailed: it cannot be imported, or takes neither one list nor two.
    """
    module_name, _, function_name = text.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
        function = getattr(module, function_name)
        needed = [
            parameter
            for parameter in inspect.signature(function).parameters.values()
            if parameter.default is parameter.empty and parameter.kind.name.startswith("POSITIONAL")
        ]
        file = inspect.getsourcefile(module)
    except Exception as error:
        raise RecogniserFailed(f"--recogniser {text}: cannot be imported ({_named(error)})") from error
    code = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""
    if len(needed) not in (1, 2):
        raise RecogniserFailed(
            f"--recogniser {text}: takes {len(needed)} arguments; it is to take one list of pictures and return "
            "embeddings, or two and return scores"
        )
    chosen = crop or "frame"
    key = f"{text} {code}"
    if len(needed) == 1:
        return Recogniser(text, key, chosen, embed=function)
    return Recogniser(text, key, chosen, score=function)


def from_onnx(path: Path, crop: Crop | None, how: Preprocessing) -> Recogniser:
    """An ONNX network with one input, pictures, whose first output is a batch of vectors.

    Raises:
        RecogniserFailed: it cannot be loaded, or takes something else.
    """
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        network = Network(path, "cpu")
    except Exception as error:
        raise RecogniserFailed(f"{path}: cannot be loaded ({_named(error)})") from error
    shape = next(iter(network.inputs.values()))
    if len(network.inputs) != 1 or len(shape) != 4:
        raise RecogniserFailed(f"{path}: takes {network.inputs}; one input of pictures with four axes is needed")
    layout = how.layout or ("nhwc" if shape[3] == 3 else "nchw")
    told = shape[1] if layout == "nhwc" else shape[2]
    size = how.size or (told if isinstance(told, int) else 112)
    as_bytes = network.session.get_inputs()[0].type == "tensor(uint8)"
    one_by_one = isinstance(shape[0], int) and shape[0] == 1

    def run(pictures: list[Bytes]) -> Floats:
        batch = np.stack([resized(picture, size) for picture in pictures])
        if how.colours == "bgr":
            batch = batch[..., ::-1]
        values: Any = batch if as_bytes else (batch.astype(np.float32) - np.float32(how.mean)) / np.float32(how.scale)
        if layout == "nchw":
            values = values.transpose(0, 3, 1, 2)
        parts = np.split(values, len(values)) if one_by_one else [values]
        found = [network(np.ascontiguousarray(part))[0] for part in parts]
        return np.concatenate(found).reshape(len(batch), -1).astype(np.float32)

    chosen = crop or "arcface"
    key = f"{digest} {how} {layout} {size}"
    name = f"{path.name} ({chosen} {size}x{size}, {how.colours}, (x - {how.mean:g}) / {how.scale:g}, {layout})"
    return Recogniser(name, key, chosen, embed=run)


def embeddings(recogniser: Recogniser, pictures: list[Bytes], names: Sequence[str]) -> list[Floats | None]:
    """Unit vectors of pictures; None where the recogniser found no face.

    Raises:
        RecogniserFailed: it raised, or returned something else; the message names the file.
    """
    embed = recogniser.embed or _cannot
    answer = _asked(recogniser, lambda part: embed([pictures[row] for row in part]), names)
    vectors: list[Floats | None] = []
    width = None
    for row, name in zip(answer, names, strict=True):
        if row is None:
            vectors.append(None)
            continue
        vector = _numbers(recogniser, row, name)
        if vector.ndim != 1 or not vector.size or (width is not None and vector.size != width):
            told = f"an embedding of the shape {list(vector.shape)}"
            raise _no_answer(recogniser, name, told + (f" after one of [{width}]" if width else ""))
        width = vector.size
        length = float(np.linalg.norm(vector))
        if not np.isfinite(vector).all() or not length > 0:
            raise _no_answer(recogniser, name, "an embedding that is not finite or has no length")
        vectors.append((vector / length).astype(np.float32))
    return vectors


def scores(
    recogniser: Recogniser, first: list[Bytes], second: list[Bytes], names: Sequence[str]
) -> list[Floats | None]:
    """Scores [1] of pairs; None where the recogniser found no face in one of the two.

    Args:
        recogniser: that scores pairs.
        first, second: the pictures.
        names: of the pairs.

    Raises:
        RecogniserFailed: see `embeddings`.
    """
    score = recogniser.score or _cannot
    answer = _asked(recogniser, lambda part: score([first[row] for row in part], [second[row] for row in part]), names)
    found: list[Floats | None] = []
    for row, name in zip(answer, names, strict=True):
        if row is None:
            found.append(None)
            continue
        value = _numbers(recogniser, row, name)
        if value.size != 1 or not np.isfinite(value).all():
            raise _no_answer(recogniser, name, "a score that is no finite number")
        found.append(value.reshape(1).astype(np.float32))
    return found


def _cannot(*_: list[Bytes]) -> Any:
    raise TypeError("it has no function of this kind")


def _asked(recogniser: Recogniser, ask: Callable[[range], Any], names: Sequence[str]) -> list[Any]:
    """What a recogniser says to all at once; where it fails, it is asked one by one to find the file."""

    def whole(part: range) -> Any:
        answer = ask(part)
        return list(answer) if inspect.isgenerator(answer) else answer  # which fails, if so, as it is read

    try:
        answer = whole(range(len(names)))
    except RecogniserFailed:
        raise
    except Exception as error:
        for index, name in enumerate(names):
            try:
                whole(range(index, index + 1))
            except Exception as alone:
                raise RecogniserFailed(f"{name}: {recogniser.name} failed on it: {_named(alone)}") from alone
        files = f"{names[0]} and the {len(names) - 1} after it"
        raise RecogniserFailed(f"{files}: {recogniser.name} failed on them together: {_named(error)}") from error
    try:
        rows = list(answer)
    except TypeError:
        raise _no_answer(recogniser, names[0], f"{type(answer).__name__} for {len(names)} pictures") from None
    if len(rows) != len(names):
        raise _no_answer(
            recogniser, names[min(len(rows), len(names) - 1)], f"{len(rows)} rows for {len(names)} pictures"
        )
    return rows


def _numbers(recogniser: Recogniser, row: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(row, np.float64)
    except Exception as error:  # a tensor of PyTorch has reasons of its own
        raise _no_answer(recogniser, name, f"something that is no numbers ({_named(error)})") from error


def _no_answer(recogniser: Recogniser, name: str, what: str) -> RecogniserFailed:
    return RecogniserFailed(f"{name}: {recogniser.name} returned {what}; see docs/report.md for what it is to return")


def _named(error: BaseException) -> str:
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
