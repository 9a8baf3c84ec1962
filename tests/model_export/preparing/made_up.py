"""Faces that nobody cut, for tests of what is done with them."""

from pathlib import Path

from model_export.preparing.candidates import Candidate
from model_export.preparing.cuts import Cuts
from model_export.preparing.cutting import Quality
from model_export.preparing.labels import Labels

GOOD = Quality(
    score=0.9,
    eye_distance=80,
    turn=0.1,
    misfit=0.05,
    outside=0,
    padding=0,
    sharpness=1,
    brightness=120,
    contrast=40,
    channel_difference=30,
    cut_out=False,
)


def candidate(source="one", row=0, quality=GOOD, cuts=None, labels=None, **more):
    """A good face, by default, that stands in no chunk."""
    file = f"{more.get('cluster', row)}.jpg"
    return Candidate(source, file, cuts or Cuts(Path("none"), 0), (0, row), quality, labels or Labels(), **more)
