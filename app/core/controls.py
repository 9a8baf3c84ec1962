"""Control vectors as people write them: ten numbers, or names with numbers."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from app.errors import UnknownControl

Written = Sequence[float] | Mapping[str, float]


def vectors(controls: Sequence[Written], names: Sequence[str]) -> list[list[float]]:
    """The controls as numbers; what is not named is 0.

    Args:
        controls: each the numbers themselves, or numbers by name.
        names: of the model's controls, in their order.

    Raises:
        UnknownControl: the model has no control of that name.
    """
    return [_vector(control, names) if isinstance(control, Mapping) else list(control) for control in controls]


def _vector(control: Mapping[str, float], names: Sequence[str]) -> list[float]:
    for name in control:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UnknownControl(f"There is no control {name!r}; there are {', '.join(names)}.{hint}")
    return [control.get(name, 0.0) for name in names]
