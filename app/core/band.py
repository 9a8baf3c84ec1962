"""The search for controls whose variants fall inside a band of similarity."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from app.core.faces import Floats
from app.core.generate import held, uniform_controls


class BandSearch:
    """Looks for controls whose variants fall inside a band of similarity, many at a time.

    Similarity falls with the distance of the control from 0. So through each random control runs a path from 0 to a
    corner of the cube, on which to bisect: too alike, farther out; too different, closer in. All advance together,
    a batch a round; one that is settled, or cannot be, leaves, and a new one takes its place while rounds are left.

    Ask `propose` for controls, tell `report` the similarities that came of them, until `done`.

    Args:
        seed: where the random directions come from.
        count: how many controls to find.
        strength: radius of the cube that controls stay in, 0..1.
        low, high: the band, ends included.
        rounds: most rounds to take.
        fixed: controls, by their places, that are the same in all, and not searched.
    """

    def __init__(
        self,
        seed: int,
        count: int,
        strength: float,
        low: float,
        high: float,
        rounds: int,
        fixed: Mapping[int, float] | None = None,
    ) -> None:
        self._fixed = fixed or {}
        self._random = np.random.Generator(np.random.PCG64(seed))
        self._strength = np.float32(strength)
        self._count, self._low, self._high, self._rounds = count, low, high, rounds
        self._paths: list[_Path] = []
        self.found = 0
        self.tries = 0

    @property
    def done(self) -> bool:
        """Whether enough were found, or the rounds are used up."""
        return self.found == self._count or self._rounds == 0

    def propose(self) -> Floats:
        """The controls [k, 10] to try next, at most as many as are still to be found."""
        missing = self._count - self.found - len(self._paths)
        self._paths += [_Path(control, self._strength) for control in uniform_controls(self._random, missing)]
        return held(np.stack([path.control for path in self._paths]), self._fixed)

    def report(self, similarities: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Take the similarities [k] of what was proposed; returns which of them [k] are inside the band."""
        inside = (similarities >= self._low) & (similarities <= self._high)
        self.found += int(inside.sum())
        self.tries += len(similarities)
        self._rounds -= 1
        left = []
        for path, similarity, hit in zip(self._paths, similarities.tolist(), inside.tolist(), strict=True):
            if not hit:
                path.narrow(too_alike=similarity > self._high)
                if path.open:
                    left.append(path)
        self._paths = left
        return inside


class _Path:
    """From control 0 (place 0) straight to a random control (1), and on to the corner of the cube beyond it (2)."""

    def __init__(self, direction: Floats, strength: np.float32) -> None:
        self._middle = direction * strength
        self._corner = np.copysign(strength, direction)
        self._near, self._far = 0.0, 2.0
        self._place = 1.0

    @property
    def control(self) -> Floats:
        if self._place <= 1:
            point: Floats = self._middle * np.float32(self._place)
        else:
            point = self._middle + (self._corner - self._middle) * np.float32(self._place - 1)
        return point

    @property
    def open(self) -> bool:
        """Whether there is still a stretch worth looking at."""
        return self._far - self._near > 0.02

    def narrow(self, too_alike: bool) -> None:
        if too_alike:
            self._near = self._place
        else:
            self._far = self._place
        self._place = (self._near + self._far) / 2
