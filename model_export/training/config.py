"""Everything that defines a run: a recipe is this as JSON, and so is the `config.json` beside a checkpoint.

What a run is to be stands in recipes (`model_export/recipes`), not here. The defaults there are mean "off", so that a
recipe from before a setting was there still says what it said.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from model_export.networks.generator import CONTROL_SIZE, NetworkConfig
from model_export.networks.landmarks import FEATURES

RECIPES = Path(__file__).parents[1] / "recipes"
SHIPPED = RECIPES / "shipped.json"
"""What the shipped weights were trained with; they began with the weights before them."""
FROM_NOTHING = RECIPES / "from_nothing.json"
"""What a run needs that begins with random numbers."""

SERVICE = "service"
"""The service's recogniser, whose embedding the encoder stands on: it judges in every run."""

Weight = Annotated[float, Field(ge=0)]
Similarity = Annotated[float, Field(ge=-1, le=1)]


class Settings(BaseModel):
    """Settings of a run, which cannot be changed or misspelt."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class LossWeights(Settings):
    """What each loss counts, by the name of its function in `losses`; 0 switches it off."""

    pixel: Weight = 0
    """Redrawing: picture against picture."""
    perceptual: Weight = 0
    """Redrawing: features against features."""
    texture: Weight = 0
    """Redrawing: as much hair and skin in each part of the picture."""
    variant_texture: Weight = 0
    """Variants: the same over the whole picture."""
    matching: Weight = 0
    """No bias of mean features, redrawings and variants apart."""
    adversarial: Weight = 0
    """The discriminator is to take what is drawn for photographs; 0 trains no discriminator either."""
    mutual_information: Weight = 0
    """Q is to read the control off the variant."""
    diversity: Weight = 0
    """Other controls, other looks, up to `diversity_limit`."""
    colour_shift: Weight = 0
    """Controls change no colour cast."""
    unlike_eyes: Weight = 0
    """Controls change both eyes alike."""
    attribute_shift: Weight = 0
    """The first control moves age by `age_step`; gender and group stay."""
    latent_cycle: Weight = 0
    """The encoder reads the latent off a variant that it was drawn from."""
    steering: Weight = 0
    """Features of the face follow the controls named after them (`steering` says how far)."""
    landmarks: Weight = 0
    """Redrawing: eyes, nose, mouth and outline lie where they lay."""
    phases: Weight = 0
    """No grid of period two."""
    seams: Weight = 0
    """No row or column that stands out."""
    divergence: Weight = 0
    """The latent of a face is nearly normal."""
    moments: Weight = 0
    """The latents of a batch are normal."""


class RecognizerWeights(Settings):
    """What the losses count that there are of each recogniser; 0 switches one off."""

    identity: Weight = 0
    """The redrawing is the person: 1 - cosine."""
    evenness: Weight = 0
    """The same squared: badly redrawn faces count more."""
    band: Weight = 0
    """Variants lie in its band."""
    bias: Weight = 0
    """No bias of mean embeddings, which makes drawn people alike."""


class Steering(Settings):
    """How the controls after the first, which is age, move the features of a face (`networks.landmarks`)."""

    controls: tuple[str, ...]
    """The feature that each control moves, in their order; as many as there are controls but the first."""
    step: Annotated[float, Field(gt=0)]
    """What a control at 1 moves its feature, in standard deviations of people."""
    follow: dict[str, dict[str, float]] = {}
    """Features that go along with another that is steered, as a share of its step: a jaw with the face's width."""
    others: Annotated[float, Field(ge=0, le=1)] = 0.3
    """What a feature that no control steers counts, beside 1 for those that are steered."""

    @model_validator(mode="after")
    def _features_are_known(self) -> Self:
        named = [*self.controls, *self.follow, *(name for names in self.follow.values() for name in names)]
        for name in [name for name in named if name not in FEATURES]:
            raise ValueError(f"steering: no feature {name!r}; there are {', '.join(FEATURES)}")
        if len(self.controls) != CONTROL_SIZE - 1 or len(set(self.controls)) < len(self.controls):
            raise ValueError(f"steering: {CONTROL_SIZE - 1} features are needed, each once")
        return self


class RecognizerConfig(Settings):
    """A recogniser that judges during training."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    """Its losses are reported as `NAME_identity` and so on; its file is given by `--recognizer NAME=FILE`."""
    band: tuple[Similarity, Similarity]
    """The similarities to the source between which variants are pushed."""
    weights: RecognizerWeights
    """Of its losses."""


def _of_four(value: Any) -> Any:
    return (value,) * 4 if isinstance(value, int | float) else value


class TrainConfig(Settings):
    """Everything that defines a run."""

    seed: Annotated[int, Field(ge=0)]
    """Of every random number: initial weights, order of faces, draws of each step."""
    batch: Annotated[int, Field(ge=2)]
    """Faces a step and process. Beside them a half as many variants (two controls a face) and an eighth as many random
    identities are decoded."""
    total_images: Annotated[int, Field(ge=1)]
    """Faces seen over which the schedules run; training may stop earlier or go on at the last rate."""
    warm_up: Annotated[float, Field(ge=0, le=1)]
    """Share of `total_images` with the losses of redrawing alone."""
    learning_rate: Annotated[float, Field(gt=0)]
    """Of encoder and decoder at first; the discriminator takes half of it."""
    final_rate: Annotated[float, Field(gt=0)]
    """The same at last, with a cosine between."""
    ema_share: Annotated[float, Field(gt=0)]
    """Half-life of the averaged weights, as a share of the images seen so far."""
    perceptual_size: Annotated[int, Field(ge=32)]
    """Side in pixels at which the perceptual network sees a face."""
    penalty_every: Annotated[int, Field(ge=1)]
    """Steps between gradient penalties."""
    penalty: Weight
    """Gamma of the gradient penalties R1 and R2."""
    matching_memory: Annotated[float, Field(ge=0, lt=1)] = 0
    """Share of what `matching` knows that a step keeps; 1 / (1 - it) steps are averaged."""
    focus: Annotated[tuple[float, float, float, float], BeforeValidator(_of_four)] = (0, 0, 0, 0)
    """How much more some places count in `pixel` and `perceptual`, 3 for four times as much: the eye on the picture's
    left, the one on its right, nose, mouth. One number stands for all four."""
    varied: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Variants of a step, as a share of its faces."""
    pairs: bool = True
    """Whether they are two controls of each face that is varied; else one, of twice as many faces, without
    `diversity`."""
    in_turns: bool = False
    """Whether judges look in turns instead of all at every step: the service's at every other one, the others at those
    between. Landmark networks place one at a time in any case."""
    balanced: bool = False
    """Whether faces are drawn by the weights that `prepare` gave them; else each once a round."""
    train: Literal["all", "controls"] = "all"
    """What is trained: everything, or what the controls go through alone, at three times as many faces a second."""
    control_rate: Annotated[float, Field(gt=0)] = 1
    """Learning rate of what the controls go through, as a multiple of the others'."""
    steering: Steering | None = None
    """Which features controls move; None where their meaning is left to chance."""
    mirror: bool = False
    """Whether the recognisers see half of the faces mirrored."""
    diversity_limit: Annotated[float, Field(gt=0)]
    """Feature distance per unit of control at which more variety earns nothing."""
    age_step: float
    """What control 1 at 1 moves apparent age, in standard deviations of the training set's age."""
    jitter: Annotated[float, Field(ge=0, lt=1)]
    """Largest zoom of what the recognisers see, as a share of 1; what every frozen network sees is shifted by up to
    half of it, as a share of the side."""
    blur: Annotated[float, Field(ge=0)] = 0
    """Largest half-width in pixels of a triangle that what the recognisers see is smoothed by."""
    light: Annotated[float, Field(ge=0, lt=1)] = 0
    """Largest change of contrast, and half of that of each channel's brightness, in what the recognisers see."""
    reach: Annotated[float, Field(gt=0)] = 1
    """Controls of variants are drawn from [-reach, reach]; export may scale those of a face beyond 1."""
    recognizers: tuple[RecognizerConfig, ...]
    """Those that judge: the service's first, then as many others as there are files of."""
    weights: LossWeights
    """Of the losses that look at no recogniser."""
    networks: NetworkConfig
    """Widths of the trained networks."""

    @model_validator(mode="before")
    @classmethod
    def _of_older_files(cls, values: Any) -> Any:
        return _upgraded(values) if isinstance(values, dict) and "band_low" in values else values

    @model_validator(mode="after")
    def _losses_can_be_had(self) -> Self:
        if self.weights.steering and self.steering is None:
            raise ValueError("weights.steering counts, but nothing is steered: say how in steering")
        if self.weights.diversity and not self.pairs:
            raise ValueError("weights.diversity compares two controls of one face, so it wants pairs")
        return self

    @model_validator(mode="after")
    def _the_service_judges_first(self) -> Self:
        names = [recognizer.name for recognizer in self.recognizers]
        if names[:1] != [SERVICE] or len(set(names)) < len(names):
            raise ValueError(f"recognizers: the first is {SERVICE!r} and no name stands twice; found {names}")
        return self

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a recipe or a run's `config.json`, of older versions too; unknown keys are a ValueError."""
        return cls.model_validate_json(path.read_text())

    @classmethod
    def of_models(cls, folder: Path) -> Self:
        """What exported models were trained with, as their manifest says; the shipped recipe where it does not."""
        settings = json.loads((folder / "manifest.json").read_text()).get("training", {}).get("settings")
        return cls.model_validate(settings) if settings else cls.load(SHIPPED)

    @property
    def loss_weights(self) -> dict[str, float]:
        """What every loss counts, by the name under which a step reports it."""
        judged = {
            f"{recognizer.name}_{loss}": weight
            for recognizer in self.recognizers
            for loss, weight in recognizer.weights.model_dump().items()
        }
        return self.weights.model_dump() | judged

    def judged_by(self, names: set[str]) -> Self:
        """The same run with those of its recognisers alone, and the service's."""
        kept = tuple(each for each in self.recognizers if each.name in names | {SERVICE})
        return self.model_copy(update={"recognizers": kept})

    def unsteered(self) -> Self:
        """The same run without what wants networks that place landmarks."""
        weights = self.weights.model_copy(update={"steering": 0.0, "landmarks": 0.0})
        return self.model_copy(update={"steering": None, "weights": weights})

    def changed(self, settings: list[str]) -> Self:
        """The same run but for some `KEY=JSON`; keys are dotted, as `weights.pixel` or `recognizers.service.band`.

        Raises:
            ValueError: there is no such setting, or it cannot have that value.
        """
        values = self.model_dump()
        for setting in settings:
            key, _, text = setting.partition("=")
            *path, last = key.split(".")
            place: Any = values
            for step in path:
                place = _step_into(place, step, key)
            if not isinstance(place, dict) or last not in place:
                raise ValueError(f"no setting {key!r}; {_there_are(place)}")
            try:
                place[last] = json.loads(text)
            except json.JSONDecodeError as error:
                raise ValueError(f"{setting!r} is not {key}=JSON; words want quotes: {key}='\"word\"'") from error
        return type(self).model_validate(values)


def _step_into(place: Any, step: str, key: str) -> Any:
    if isinstance(place, tuple) and all(isinstance(item, dict) for item in place):  # recognisers go by their names
        place = {item["name"]: item for item in place}
    if not isinstance(place, dict) or step not in place:
        raise ValueError(f"no setting {key!r}; {_there_are(place)}")
    return place[step]


def _there_are(place: Any) -> str:
    return f"there are {', '.join(place)}" if isinstance(place, dict) else "nothing is below that"


OLDER_NAMES = {"": SERVICE, "second_": "dlib", "third_": "faceplugin"}
"""Files of weights up to 0.6.0 had fields for three recognisers instead of a list: their prefix -> the name now."""


def _upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """What a file of weights up to 0.6.0 says, as it is said now; a recogniser without losses is left out."""
    values, weights = dict(values), dict(values["weights"])
    recognizers = []
    for prefix, name in OLDER_NAMES.items():
        walls = (
            [values.pop(f"{prefix}{wall}", None) for wall in ("band_low", "band_high")]
            if not prefix
            else [values.pop(f"{prefix}{wall}", None) for wall in ("low", "high")]
        )
        own = {loss: weights.pop(f"{prefix}{loss}", 0.0) for loss in RecognizerWeights.model_fields}
        if any(own.values()) or name == SERVICE:
            recognizers.append({"name": name, "band": walls, "weights": own})
    return values | {"recognizers": recognizers, "weights": weights}
