"""Control vectors as people write them: ten numbers, or names with numbers."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TypeVar

from app.core.parameters import SamplingParameters, Written
from app.errors import UnknownControl

P = TypeVar("P", bound=SamplingParameters)


def numbered(parameters: P, names: Sequence[str]) -> P:
    """The same parameters, controls that are listed as ten numbers each; those that are fixed keep the model's names.

    Args:
        parameters: what is asked for.
        names: of the model's controls, in their order.

    Raises:
        UnknownControl: the model has no control of a name that was given.
    """
    written = parameters.controls
    if written is None:
        return parameters
    if isinstance(written, list):
        return parameters.model_copy(update={"controls": vectors(written, names)})
    fixed = {names[place]: value for place, value in places(written, names).items()}
    return parameters.model_copy(update={"controls": fixed})


def vectors(controls: Sequence[Written], names: Sequence[str]) -> list[list[float]]:
    """The controls as numbers; what is not named is 0.

    Args:
        controls: each the numbers themselves, or numbers by name.
        names: of the model's controls, in their order.

    Raises:
        UnknownControl: the model has no control of that name.
    """
    return [_vector(control, names) if isinstance(control, Mapping) else list(control) for control in controls]


def places(control: Mapping[str, float], names: Sequence[str]) -> dict[int, float]:
    """Numbers by name as numbers by place.

    Names are those of the model, whether their words are joined by spaces, `_` or `-`, in capitals or not.

    Raises:
        UnknownControl: the model has no control of that name, or one is named twice.
    """
    known = {_plain(name): place for place, name in enumerate(names)}
    found: dict[int, float] = {}
    for name, value in control.items():
        if (place := known.get(_plain(name))) is None:
            raise unknown(name, names)
        if place in found:
            raise UnknownControl(f"The control {names[place]!r} is named more than once.")
        found[place] = value
    return found


def unknown(name: str, names: Sequence[str]) -> UnknownControl:
    """What is said of a name that no control has."""
    near = difflib.get_close_matches(_plain(name)[:64], [_plain(known) for known in names], 1)
    hint = f" Did you mean {next(known for known in names if _plain(known) == near[0])!r}?" if near else ""
    return UnknownControl(f"There is no control {name[:64]!r}; there are {', '.join(names)}.{hint}")


def _vector(control: Mapping[str, float], names: Sequence[str]) -> list[float]:
    given = places(control, names)
    return [given.get(place, 0.0) for place in range(len(names))]


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
