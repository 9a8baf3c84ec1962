"""Which faces are good enough to learn from."""

from __future__ import annotations

from dataclasses import dataclass

from model_export.preparing.cutting import Quality

FRONTAL = 0.35
"""Turn up to which a face's points fit the frame as well as a frontal face's."""
MISFIT_PER_TURN = 0.25
"""How much worse they may fit for each eye distance of turn beyond: the nose leaves its place, the eyes do not."""


@dataclass(frozen=True)
class Limits:
    """What a face must satisfy to be kept; see `cutting.Quality` for the measures.

    Attributes:
        min_age: of faces whose age is labelled.
        min_estimated_age: of faces whose age is estimated; above `min_age`, since estimates err.
        min_apparent_age: estimated age of faces that are labelled older: below, the label is not believed.
    """

    min_score: float = 0.7
    max_turn: float = 0.6
    max_misfit: float = 0.16
    min_eye_distance: float = 40.0
    max_outside: float = 0.12
    max_padding: float = 0.02
    min_sharpness: float = 0.25
    min_brightness: float = 30.0
    max_brightness: float = 215.0
    min_contrast: float = 11.0
    min_age: float = 18.0
    min_estimated_age: float = 22.0
    min_apparent_age: float = 16.0

    def reason(self, quality: Quality) -> str:
        """Why a face is dropped for its quality, in a few words; empty where it is kept."""
        checks = (
            ("score too low", quality.score < self.min_score),
            ("profile", quality.turn > self.max_turn),
            ("points do not fit", quality.misfit > self.max_misfit + MISFIT_PER_TURN * max(0, quality.turn - FRONTAL)),
            ("eyes too close", quality.eye_distance < self.min_eye_distance),
            ("beyond the picture", quality.outside > self.max_outside),
            ("black padding", quality.padding > self.max_padding),
            ("cut out on white", quality.cut_out),
            ("too dark", quality.brightness < self.min_brightness),
            ("too bright", quality.brightness > self.max_brightness),
            ("too flat", quality.contrast < self.min_contrast),
            ("blurred", quality.sharpness < self.min_sharpness),
        )
        return next((name for name, failed in checks if failed), "")

    def too_young(self, labelled: float, estimated: float) -> str:
        """Why a face is dropped for its age in years, nan where unknown; empty where it is kept.

        Args:
            labelled: the youngest that it may be, by its label.
            estimated: as old as it looks.
        """
        checks = (
            ("minor", labelled < self.min_age),
            ("labelled older than it looks", labelled >= self.min_age and estimated < self.min_apparent_age),
            ("may be a minor", labelled != labelled and estimated < self.min_estimated_age),
        )
        return next((name for name, failed in checks if failed), "")


HELP = {
    "min_score": "detector confidence",
    "max_turn": "nose off the eyes' middle, in eye distances",
    "max_misfit": "mean distance of the points to the face frame's, in eye distances, of a frontal face",
    "min_eye_distance": "pixels of the photograph (the 128 px frame has 51.7 between the eyes)",
    "max_outside": "share of the frame beyond the photograph",
    "max_padding": "share of the frame that is black padding, baked into the picture",
    "min_sharpness": "variance of the Laplacian per deviation of the luminance",
    "min_brightness": "mean luminance, 0..255",
    "max_brightness": "mean luminance, 0..255",
    "min_contrast": "standard deviation of the luminance",
    "min_age": "years, of labelled faces",
    "min_estimated_age": "years, of faces whose age is estimated",
    "min_apparent_age": "years that a face must look, however it is labelled",
}
"""What each limit is measured in, for the command line."""
