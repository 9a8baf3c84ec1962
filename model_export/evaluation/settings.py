"""How much an evaluation looks at, and the random numbers of each question."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

EARLIER = {"jitter scale": 1, "latent jitter": 2, "random people": 3}
"""Draws of which figures of earlier weights were made, and what was added to the seed: new figures stay comparable."""


@dataclass(frozen=True)
class Settings:
    """How much is looked at.

    Attributes:
        faces: held-out faces with `controls` random controls each.
        controls: variants a face.
        wide: held-out faces (those among them) with one variant each, for realism and fairness, which need many people.
        baseline_faces: faces of the baselines' in-band rate and diversity.
        reference: training faces that realism is measured against and the attribute probe is fitted on.
        sweep_faces: faces on which each control is walked from -1 to 1.
        random: random identities.
        seed: of every choice and draw.
        resamples: of the faces, for the intervals; slow statistics take fewer.
        steps: of a control's walk.
        most_people, each: real people of a folder of their own, if there is one, and photographs of each.
    """

    faces: int = 300
    controls: int = 10
    wide: int = 1000
    baseline_faces: int = 100
    reference: int = 3000
    sweep_faces: int = 24
    random: int = 500
    seed: int = 0
    resamples: int = 1000
    steps: int = 9
    most_people: int = 200
    each: int = 4

    def chance(self, question: str) -> np.random.Generator:
        """The random numbers of one question, whatever else is asked and in which order."""
        if question in EARLIER:
            return np.random.default_rng(self.seed + EARLIER[question])
        return np.random.default_rng([self.seed, *question.encode()])
