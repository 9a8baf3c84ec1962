"""What `/v1/compare` answers, as data: what OpenAPI shows of it."""

from __future__ import annotations

from app.http.schemas import Answer, FoundFace, ModelName


class Verdict(Answer):
    """A decision at one false match rate."""

    fmr: float
    """Share of pairs of different people that this threshold takes for one."""

    threshold: float
    match: bool


class Normalised(Answer):
    """A similarity as seen from a cohort."""

    score: float
    """Standard deviations above what the cohort scores with these two faces: adaptive S-norm."""

    members: int
    """People in the cohort."""

    top: int
    """How many of them each face is held against: those most like it."""


class CompareAnswer(Answer):
    """How alike two faces are."""

    id: str
    """Digest of both photographs, the parameters and the model."""

    model: ModelName

    similarity: float
    """Cosine of the recogniser, -1..1."""

    verdicts: list[Verdict]

    normalised: Normalised | None = None
    """The similarity normalised by the operator's cohort, where that was asked for; `verdicts` are of the other."""

    reference: FoundFace
    probe: FoundFace
