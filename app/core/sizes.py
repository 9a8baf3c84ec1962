"""The size that pictures are asked for in, held against those that a model has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from app.core.parameters import PictureParameters
from app.errors import UnknownSize

P = TypeVar("P", bound=PictureParameters)


def sized(parameters: P, sizes: Sequence[int]) -> P:
    """The same parameters; the size in which everything is drawn need not be said, so it is left out.

    Args:
        parameters: what is asked for.
        sizes: sides in pixels that the model's pictures can have, as they are drawn first.

    Raises:
        UnknownSize: the model has no such pictures.
    """
    if parameters.size is None:
        return parameters
    if parameters.size not in sizes:
        raise UnknownSize(f"There are no pictures of {parameters.size} pixels, only of {' or '.join(map(str, sizes))}.")
    return parameters.model_copy(update={"size": None}) if parameters.size == sizes[0] else parameters
