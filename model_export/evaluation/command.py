"""`evaluate`: what the served networks do with faces that training never saw, with intervals, beside two baselines.

Judges the ONNX files as they are served, on the CPU. Every interval resamples faces, never the variants of one face.
Writes `evaluation.json` (whose `controls`, `thresholds` and `metrics` are copied into the manifest by `export
--facts`), plots and sheets.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from app.core.faces import Bytes, Detector
from app.core.generate import CONTROL_SIZE, IDENTITY_SIZE, Generator, sweep_controls
from model_export.evaluation import card, metrics, sheets
from model_export.evaluation import controls as control_effects
from model_export.evaluation.judge import Judge
from model_export.evaluation.metrics import Figure, bootstrap
from model_export.evaluation.samples import (
    Looks,
    Studio,
    Variants,
    in_chunks,
    match_jitter,
    morph,
    nearest_others,
    random_controls,
)
from model_export.networks.probes import GROUPS, AttributeProbe
from model_export.preparing.dataset import FaceSet

Array = NDArray[Any]

QUOTED_GENUINE_MEDIAN = 0.74
"""The recogniser's median similarity of two photographs of one person, quoted and not measured here.

From 1,000 photographs of Labeled Faces in the Wild (708 people), cut into the same 128-pixel face frame with nothing
outside of it. The faces that are evaluated on have no identity labels, so it cannot be had from them.
"""
QUOTED_FROM = "1,000 LFW photographs (708 people), same face frame and crop; quoted, not measured on these faces"

RATES = (1e-2, 1e-3, 1e-4)
MORPH_SHARE = 0.5
"""The pixel morphs of a face take shares of its neighbour that grow evenly up to this."""
LEAST_RESPONSE = 0.5
"""Of a reading per unit of its control, under which the control counts as dead in the rank correlation."""
JUDGE_REFERENCE = 1000
"""Of the reference faces, about so many are seen by the second recogniser."""
SMALL_GROUP = 20
"""Groups of fewer faces are shown, but do not count as the one that is farthest behind."""


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


class Evaluation:
    """One evaluation: the faces it chose and what was made of them; each method measures one row of the table."""

    def __init__(self, data: Path, models: Path, judge: Path | None, settings: Settings, threads: int = 0) -> None:
        self.settings = settings
        if threads:
            torch.set_num_threads(threads)
        self.train, self.test = FaceSet.open(data, "train"), FaceSet.open(data, "test")
        if min(len(self.train), len(self.test)) < 10:
            raise ValueError(f"{data}: too few faces to evaluate on; prepare at least 10 a side")
        self.studio = Studio(Generator(models, "cpu", threads), Judge(judge, threads) if judge else None)
        self.detector = Detector(models, "cpu", threads)
        self.looks = Looks()
        self.random = np.random.default_rng(settings.seed)
        self._check_embeddings()
        self.clock: dict[str, float] = {}
        self.metrics: dict[str, Any] = {}

    def _check_embeddings(self) -> None:
        fresh = self.studio.recognise(np.asarray(self.test.faces[:4]))
        if float(np.abs(fresh - self.test.embeddings[:4]).max()) > 0.02:
            raise ValueError("the prepared embeddings are not of this recogniser; run prepare again")

    # -- what is looked at ---------------------------------------------------------------------------------------

    def make(self) -> None:
        """Choose faces, reconstruct them and draw variants; the first `faces` of the wide sample have them all."""
        settings = self.settings
        self.rows = self.random.permutation(len(self.test))[: max(settings.wide, settings.faces)]
        self.sources: Bytes = np.ascontiguousarray(self.test.faces[self.rows])
        self.embeddings = np.ascontiguousarray(self.test.embeddings[self.rows])
        self.deep = min(settings.faces, len(self.rows))
        self.identities = self.studio.encode(self.sources)
        still = np.zeros((len(self.rows), CONTROL_SIZE), np.float32)
        self.reconstructions, embeddings = self.studio.decode(self.identities, still)
        self.similarity = (embeddings * self.embeddings).sum(1)
        self.judged = self.studio.judge_faces(self.sources)
        self.judged_reconstructions = None
        if self.judged is not None:
            self.judged_reconstructions = self._judged_again(self.reconstructions[: self.deep])
        controls = random_controls(len(self.rows), settings.controls, settings.seed)
        self.variants = self._decode(self.identities[: self.deep], controls[: self.deep])
        # One variant of every other face of the wide sample.
        self.firsts: Bytes = self.variants.images[:, 0]
        self.first_similarity = self.variants.similarity[:, 0]
        if len(self.rows) > self.deep:
            images, embeddings = self.studio.decode(self.identities[self.deep :], controls[self.deep :, 0])
            self.firsts = np.concatenate([self.firsts, images])
            rest = (embeddings * self.embeddings[self.deep :]).sum(1)
            self.first_similarity = np.concatenate([self.first_similarity, rest])

    def _decode(self, identities: Array, controls: Array) -> Variants:
        """Variants of the first faces, from identities [n, 70] or [n, k, 70] and controls [n, k, 10]."""
        count, each = controls.shape[:2]
        if identities.ndim == 2:
            identities = np.repeat(identities[:, None], each, axis=1)
        images, embeddings = self.studio.decode(
            identities.reshape(-1, IDENTITY_SIZE), controls.reshape(-1, CONTROL_SIZE).astype(np.float32)
        )
        judged = None if self.judged is None else self.judged[:count]
        scored = self.studio.score(images, embeddings, self.embeddings[:count], judged)
        return Variants(scored.images, scored.similarity, scored.judged, controls)

    def make_baselines(self) -> None:
        """Latent jitter as far from the source as the variants are, and pixel morphs towards the nearest other face."""
        count, each = min(self.settings.baseline_faces, self.deep), self.settings.controls
        wanted = float(np.median(self.variants.similarity))
        few = slice(0, min(60, len(self.rows)))
        self.jitter_scale = match_jitter(
            self.studio, self.identities[few], self.embeddings[few], wanted, self.settings.seed + 1
        )
        noise = np.random.default_rng(self.settings.seed + 2).standard_normal((len(self.rows), each, IDENTITY_SIZE))
        jittered = (self.identities[:, None] + self.jitter_scale * noise).astype(np.float32)
        still = np.zeros((count, each, CONTROL_SIZE), np.float32)
        jitter = self._decode(jittered[:count], still)
        rest, _ = self.studio.decode(jittered[count:, 0], np.zeros((len(self.rows) - count, CONTROL_SIZE), np.float32))
        others = nearest_others(np.asarray(self.test.embeddings), self.test.clusters)[self.rows]
        neighbours = np.ascontiguousarray(self.test.faces[others])
        shares = np.arange(1, each + 1) / each * MORPH_SHARE
        blends = morph(self.sources[:count], neighbours[:count], shares)
        flat = blends.reshape(-1, *blends.shape[2:])
        judged = None if self.judged is None else self.judged[:count]
        blended = self.studio.score(flat, self.studio.recognise(flat), self.embeddings[:count], judged)
        # For realism each face takes another share of its neighbour, so that all shares are there.
        one_each = [
            morph(self.sources[row : row + 1], neighbours[row : row + 1], shares[[row % each]])[0, 0]
            for row in range(len(self.rows))
        ]
        self.baselines = {"latent jitter": jitter, "pixel morph": blended}
        self.baseline_firsts = {
            "latent jitter": np.concatenate([jitter.images[:, 0], rest]),
            "pixel morph": np.stack(one_each),
        }

    # -- rows of the table ---------------------------------------------------------------------------------------

    def calibrate(self) -> None:
        """Thresholds of both recognisers on pairs of different held-out people."""
        names = [f"fmr_{rate:.0e}".replace("e-0", "e-") for rate in RATES]
        draws = {"resamples": max(10, self.settings.resamples // 10), "seed": self.settings.seed}
        figures = metrics.calibrate(np.asarray(self.test.embeddings), self.test.clusters, RATES, **draws)
        self.thresholds = dict(zip(names, (figure.value for figure in figures), strict=True))
        self.thresholds["genuine_median"] = QUOTED_GENUINE_MEDIAN
        self.band = (self.thresholds["fmr_1e-3"], QUOTED_GENUINE_MEDIAN)
        entry: dict[str, Any] = {
            "recognizer": {name: figure.as_json() for name, figure in zip(names, figures, strict=True)},
            "genuine_median": {"value": QUOTED_GENUINE_MEDIAN, "quoted_from": QUOTED_FROM},
            "held_out_faces": len(self.test),
        }
        self.judge_threshold = float("nan")
        if self.judged is not None:
            figures = metrics.calibrate(self.judged, self.test.clusters[self.rows], RATES, **draws)
            entry["judge"] = {name: figure.as_json() for name, figure in zip(names, figures, strict=True)}
            entry["judge_faces"] = len(self.judged)
            self.judge_threshold = figures[1].value
            # A judge that lost people to blur and compression would judge the pictures and not the likeness.
            some = self.sources[: self.deep]
            entry["judge_still_recognises"] = _json(
                {
                    "mirrored_photographs": self._mean(self._judged_again(some[:, :, ::-1]) >= self.judge_threshold),
                    "degraded_photographs": self._mean(self._judged_again(degrade(some)) >= self.judge_threshold),
                }
            )
        self.metrics["calibration"] = entry

    def _judged_again(self, faces: Bytes) -> Array:
        """The judge's similarity of pictures of the first faces to their photographs."""
        again = self.studio.judge_faces(faces)
        assert again is not None
        assert self.judged is not None
        return np.asarray((again * self.judged[: len(faces)]).sum(1))

    def in_band(self, variants: Variants) -> dict[str, Figure]:
        """Rates of variants inside, below and above the band, and what the judge says of them."""
        low, high = self.band
        similarity = variants.similarity
        rows = {
            "rate": self._mean((similarity >= low) & (similarity <= high)),
            "below": self._mean(similarity < low),
            "above": self._mean(similarity > high),
            "similarity_median": self._figure(lambda values: float(np.median(values)), similarity),
        }
        if variants.judged is not None:
            # The judge's genuine median is unknown (no identity labels), so only the lower edge of its band holds.
            rows["judge_taken_for_the_person"] = self._mean(variants.judged >= self.judge_threshold)
            rows["judge_similarity_median"] = self._figure(lambda values: float(np.median(values)), variants.judged)
            both = (similarity >= low) & (similarity <= high) & (variants.judged >= self.judge_threshold)
            rows["in_band_and_taken_by_the_judge"] = self._mean(both)
        return rows

    def _mean(self, values: Array) -> Figure:
        return self._figure(lambda rows: float(np.mean(rows)), values.astype(np.float64))

    def _figure(self, statistic: Callable[..., float], *arrays: Array, cost: int = 1, centred: bool = False) -> Figure:
        """A statistic with its interval; slow statistics are resampled `cost` times less often."""
        resamples = max(10, self.settings.resamples // cost)
        return bootstrap(statistic, *arrays, resamples=resamples, seed=self.settings.seed, centred=centred)

    def measure_band(self) -> None:
        """In-band rate of random controls at full strength."""
        rows = self.in_band(self.variants)
        rows["rate"] = rows["rate"].with_aim(">=", 0.95)
        if "judge_taken_for_the_person" in rows:
            rows["judge_taken_for_the_person"] = rows["judge_taken_for_the_person"].with_aim(">=", 0.75)
        self.metrics["in_band"] = _json(rows)

    def measure_reconstruction(self) -> None:
        """c = 0 against the photograph, over the wide sample."""
        low, high = self.band
        self.signal = metrics.psnr(self.reconstructions, self.sources)
        rows = {
            "psnr": self._mean(self.signal).with_aim(">=", 22),
            "similarity_median": self._figure(lambda values: float(np.median(values)), self.similarity).with_aim(
                ">=", high
            ),
            "above_threshold": self._mean(self.similarity >= low).with_aim(">=", 0.95),
        }
        if self.judged_reconstructions is not None:
            rows["judge_above_threshold"] = self._mean(self.judged_reconstructions >= self.judge_threshold)
        self.metrics["reconstruction"] = _json(rows)

    def measure_diversity(self) -> None:
        """Feature distance among the variants of a face, over the distance of two people's photographs."""
        order = self.random.permutation(self.deep)
        sources = self.sources[: self.deep]
        self.people = self.looks.distance(sources[order], sources[np.roll(order, 1)])
        apart = np.empty_like(self.people)
        apart[order] = self.people
        self.people = apart  # of each face to the one before it in the order
        self.spread = self.looks.spread(self.variants.images)
        drawn = self.reconstructions[: self.deep]
        redrawn = self.looks.distance(drawn[order], drawn[np.roll(order, 1)])
        self.metrics["diversity"] = _json(
            {
                "ratio": self._figure(_ratio_of_means, self.spread, self.people).with_aim(">=", 0.35),
                "ratio_to_reconstructions": self._figure(_ratio_of_means, self.spread[order], redrawn),
                "distance_of_two_people": self._mean(self.people),
            }
        )

    def measure_realism(self) -> None:
        """Kernel and Frechet distance to training faces, beside what held-out photographs of the same people have."""
        chosen = self.random.permutation(len(self.train))[: self.settings.reference]
        self.reference_rows = np.sort(chosen)
        self.reference_pooled, deep = self._describe(np.asarray(self.train.faces[self.reference_rows]))
        self._distances = metrics.KernelDistance(deep), metrics.FrechetDistance(deep)
        self.source_pooled, self._floor = self._describe(self.sources)
        self._floor_gram = self._distances[0].gram(self._floor)
        kernel, frechet = self._distances
        rows = np.arange(len(self._floor))
        self.metrics["realism"] = {
            "features": "EfficientNet-Lite0 (ImageNet) at 128 pixels, means of the last feature map (block 15)",
            "faces": len(self._floor),
            "reference_faces": len(deep),
            **_json(self.realism(self.firsts)),
            "floor_kernel_distance": kernel.of_rows(*self._floor_gram, rows),
            "floor_frechet_distance": frechet(self._floor),
            "reconstructions": _json(self.realism(self.reconstructions)),
        }
        for name in ("kernel_over_floor", "frechet_over_floor"):
            entry = self.metrics["realism"][name]
            value = entry["value"]
            entry |= {"aim": "<= 3", "met": None if value is None else value <= 3}
        if self.judged is not None:
            # Training saw the features above; these it did not.
            few = self.reference_rows[:: max(1, len(self.reference_rows) // JUDGE_REFERENCE)]
            judged = self.studio.judge_faces(np.asarray(self.train.faces[few]))
            drawn = self.studio.judge_faces(self.firsts)
            assert judged is not None
            assert drawn is not None
            kernel = metrics.KernelDistance(judged)
            floor_gram = kernel.gram(self.judged)
            over = self._kernel_over(kernel, kernel.gram(drawn), floor_gram)
            self.metrics["realism"]["judge_kernel_over_floor"] = over.as_json()

    def _kernel_over(
        self, kernel: metrics.KernelDistance, gram: tuple[Array, Array], floor_gram: tuple[Array, Array]
    ) -> Figure:
        """A kernel distance as a multiple of the floor's."""

        def over(rows: Array) -> float:
            return kernel.of_rows(*gram, rows) / max(kernel.of_rows(*floor_gram, rows), 1e-12)

        return self._figure(over, np.arange(len(gram[1])), cost=5, centred=True)

    def realism(self, images: Bytes) -> dict[str, Figure]:
        """Distances of one picture a face of the wide sample, plain and as multiples of the floor's."""
        kernel, frechet = self._distances
        deep = self._describe(images)[1]
        gram = kernel.gram(deep)
        rows = np.arange(len(deep))

        def frechet_over(rows: Array) -> float:
            return frechet(deep[rows]) / max(frechet(self._floor[rows]), 1e-12)

        return {
            "kernel_distance": self._figure(lambda rows: kernel.of_rows(*gram, rows), rows, cost=5, centred=True),
            "kernel_over_floor": self._kernel_over(kernel, gram, self._floor_gram),
            "frechet_distance": self._figure(lambda rows: frechet(deep[rows]), rows, cost=16, centred=True),
            "frechet_over_floor": self._figure(frechet_over, rows, cost=16, centred=True),
        }

    def _describe(self, faces: Bytes) -> tuple[Array, Array]:
        pooled, deep = self.looks.describe(faces)
        return pooled, deep.astype(np.float64)

    def measure_recoverability(self) -> None:
        """A fresh regressor reads the controls off JPEG-85'd, blurred variants of faces it was not fitted on."""
        images, controls = self.variants.images, self.variants.controls
        assert controls is not None
        count, each = controls.shape[:2]
        self.unread = np.arange(count) >= count * 4 // 5
        details = self._changes(images, self.reconstructions[:count])
        fit = ~self.unread
        # Faces stay together in the order of the samples, so the regressor's own check is on other faces as well.
        self.reader = metrics.KernelRidge(
            details[fit].reshape(fit.sum() * each, -1), controls[fit].reshape(-1, CONTROL_SIZE).astype(np.float64)
        )
        held = details[self.unread]
        truth = controls[self.unread].astype(np.float64)
        self.readings = self.reader(held.reshape(-1, held.shape[-1])).reshape(truth.shape)

        def scores(read: Array, true: Array) -> Array:
            return metrics.r_squared(read.reshape(-1, CONTROL_SIZE), true.reshape(-1, CONTROL_SIZE))

        pairs = (self.readings, truth)
        by_control = [
            self._figure(lambda r, t, i=i: float(scores(r, t)[i]), *pairs, cost=3) for i in range(CONTROL_SIZE)
        ]
        self.metrics["control_recoverability"] = {
            "regressor": f"kernel ridge, {int(fit.sum())} faces to fit, {int(self.unread.sum())} to score",
            **_json(
                {
                    "r2_worst": self._figure(lambda r, t: float(scores(r, t).min()), *pairs).with_aim(">=", 0.9),
                    "r2_mean": self._figure(lambda r, t: float(scores(r, t).mean()), *pairs),
                    "nats": self._figure(lambda r, t: metrics.nats_of_uniform(scores(r, t)), *pairs).with_aim(
                        ">=", 9.7
                    ),
                }
            ),
            "r2": [figure.with_aim(">=", 0.9).as_json() for figure in by_control],
        }
        self.truth = truth

    def _changes(self, variants: Bytes, reconstructions: Bytes) -> Array:
        """What the regressor sees of degraded variants [n, k, ...] beside their reconstructions [n, ...]; [n, k, d]."""
        flat = variants.reshape(-1, *variants.shape[2:])
        seen = in_chunks(lambda part: self.looks.details(degrade(part)), flat)
        plain = in_chunks(lambda part: self.looks.details(degrade(part)), reconstructions)
        return seen.reshape(*variants.shape[:2], -1) - plain[:, None]

    def measure_controls(self) -> None:
        """Sweeps of every control: what it does, how steadily, and what else moves."""
        steps = self.settings.steps
        places = np.flatnonzero(self.unread)[: self.settings.sweep_faces]
        positions = np.linspace(-1, 1, steps)
        walks = np.concatenate([sweep_controls(control, steps) for control in range(CONTROL_SIZE)])
        pictures = np.stack([self._walk(int(place), walks) for place in places])  # [faces, 10 * steps, 128, 128, 3]
        reconstructions = self.reconstructions[places]
        changes = self._changes(pictures, reconstructions)
        read = self.reader(changes.reshape(-1, changes.shape[-1])).reshape(len(places), CONTROL_SIZE, steps, -1)
        centred = positions - positions.mean()
        slopes = np.einsum("fcsk,s->fck", read, centred) / np.square(centred).sum()
        steady = np.stack([metrics.spearman(read[:, index, :, index], positions) for index in range(CONTROL_SIZE)], 1)
        # Ranks see the faintest trace: a control that hardly moves its own reading is dead all the same.
        own = np.diagonal(slopes.mean(0))
        steady = np.where(np.abs(own) >= LEAST_RESPONSE, steady, 0.0)

        measurements, measured, deviations = self._measure(pictures)
        sweeps = measured.reshape(len(places), CONTROL_SIZE, steps, -1).transpose(1, 0, 2, 3)
        grid = pictures.reshape(len(places), CONTROL_SIZE, steps, *pictures.shape[2:])
        ends = np.array(
            [self.looks.distance(grid[:, index, 0], grid[:, index, -1]).mean() for index in range(CONTROL_SIZE)]
        )
        found = control_effects.effects(
            measurements, sweeps, positions, deviations, ends / max(float(self.people.mean()), 1e-9)
        )
        self.found, self.sweeps, self.positions = found, grid, positions
        self.controls = control_effects.name_controls(found)
        names = [item.name for item in measurements]
        age = names.index("age")
        gaps = lambda r, t: float(  # noqa: E731
            metrics.mutual_information_gap(t.reshape(-1, CONTROL_SIZE), r.reshape(-1, CONTROL_SIZE)).mean()
        )
        self.metrics["disentanglement"] = {
            "faces": len(places),
            **_json(
                {
                    "spearman": self._figure(lambda rows: float(rows.mean()), steady).with_aim(">=", 0.95),
                    "spearman_worst": self._figure(lambda rows: float(rows.mean(0).min()), steady),
                    "off_diagonal": self._figure(
                        lambda rows: metrics.off_diagonal(np.abs(rows).mean(0)), slopes
                    ).with_aim("<=", 0.1),
                    "mutual_information_gap": self._figure(
                        gaps, self.readings, self.truth, cost=10, centred=True
                    ).with_aim(">=", 0.5),
                }
            ),
            "age_of_control_1": {
                "years": self._figure(
                    lambda rows: float(np.polyfit(positions, rows.mean(0), 1)[0] * 2), sweeps[0, :, :, age]
                ).as_json(),
                "spearman": self._figure(
                    lambda rows: float(metrics.spearman(rows, positions).mean()), sweeps[0, :, :, age]
                )
                .with_aim(">=", 0.95)
                .as_json(),
                "probe_r2_on_held_out_people": self.probe_score,
                "age_effect_by_control": [float(f"{value:.3g}") for value in found.size[:, age]],
            },
            "distance_of_ends_over_two_people": [float(f"{value:.3g}") for value in found.distance],
            "effects": {
                "measurements": names,
                "standard_deviations": [[float(f"{value:.3g}") for value in row] for row in found.size],
            },
        }

    def _walk(self, place: int, walks: Array) -> Bytes:
        identities = np.repeat(self.identities[place : place + 1], len(walks), axis=0)
        return self.studio.decode(identities, walks)[0]

    def _measure(self, pictures: Bytes) -> tuple[tuple[control_effects.Measurement, ...], Array, Array]:
        """All measurements of pictures [faces, k, ...], and their deviations over photographs of held-out people."""
        train, rows = self.train, self.reference_rows
        probe = AttributeProbe(self.reference_pooled.shape[1])
        known = ~np.isnan(train.ages[rows])
        names = train.group_names[:GROUPS]
        deviation_of_age, mean_of_age = 1.0, 0.0
        self.probe_score: float | None = None
        if known.sum() >= 50:
            labels = [values[rows][known] for values in (train.ages, train.genders, train.groups)]
            probe.fit(torch.from_numpy(self.reference_pooled[known]), *labels)
            mean_of_age, deviation_of_age = float(labels[0].mean()), float(labels[0].std())
        attributes = control_effects.attributes(train.gender_names, names)

        def read(pooled: Array) -> Array:
            values = (torch.from_numpy(pooled) - probe.mean) @ probe.weight + probe.bias
            columns = values.numpy()[:, : len(attributes)].astype(np.float64)
            columns[:, 0] = columns[:, 0] * deviation_of_age + mean_of_age
            return columns

        own = read(self.source_pooled)
        ages = self.test.ages[self.rows].astype(np.float64)
        told = ~np.isnan(ages)
        if known.sum() >= 50 and told.sum() > 2:
            self.probe_score = float(f"{metrics.r_squared(own[told, :1], ages[told, None])[0]:.3g}")
        flat = pictures.reshape(-1, *pictures.shape[2:])
        some = self.sources[: min(200, len(self.sources))]
        measured = np.column_stack(
            [
                read(self.looks.describe(flat)[0]),
                control_effects.measure_landmarks(self.detector, flat),
                in_chunks(control_effects.measure_appearance, flat),
            ]
        )
        landmarks = control_effects.measure_landmarks(self.detector, some)
        appearance = in_chunks(control_effects.measure_appearance, self.sources)
        deviations = np.concatenate([own.std(0), np.nanstd(landmarks, axis=0), appearance.std(0)])
        everything = (*attributes, *control_effects.LANDMARKS, *control_effects.APPEARANCE)
        return everything, measured, deviations

    def measure_random(self) -> None:
        """Identities drawn from the prior: are they faces, and whose?"""
        count = self.settings.random
        random = np.random.default_rng(self.settings.seed + 3)
        identities = random.standard_normal((count, IDENTITY_SIZE)).astype(np.float32)
        self.random_faces, embeddings = self.studio.decode(identities, np.zeros((count, CONTROL_SIZE), np.float32))
        found = self._detected(self.random_faces)
        floor = self._detected(self.sources[: min(200, len(self.sources))])
        similarity = embeddings @ np.asarray(self.train.embeddings).T
        self.nearest, self.nearest_similarity = similarity.argmax(1), similarity.max(1)
        of_people = (self.embeddings @ np.asarray(self.train.embeddings).T).max(1)
        median = lambda values: float(np.median(values))  # noqa: E731
        self.metrics["random_identities"] = _json(
            {
                "detected": self._mean(found).with_aim(">=", 0.99),
                "detected_among_photographs": self._mean(floor),
                "nearest_training_face": self._figure(median, self.nearest_similarity),
                "nearest_training_face_of_held_out_people": self._figure(median, of_people),
            }
        )
        self._memorisation(embeddings)

    def _detected(self, faces: Bytes) -> Array:
        return np.array([bool(self.detector(Image.fromarray(face))) for face in faces])

    def _memorisation(self, generated: Array) -> None:
        """Are training faces closer to what the generator draws than held-out ones? (GAN-Leaks, Chen et al. 2020)."""
        count = min(len(self.test), len(self.train))
        chosen = np.sort(self.random.permutation(len(self.train))[:count])
        train = 1 - (np.asarray(self.train.embeddings)[chosen] @ generated.T).max(1)
        test = 1 - (np.asarray(self.test.embeddings)[:count] @ generated.T).max(1)
        figure = self._figure(metrics.auc, train, test, cost=3)
        entry = figure.as_json() | {"aim": "0.5 +- 0.03", "met": abs(figure.value - 0.5) <= 0.03}
        few = chosen[: self.deep]
        faces = np.ascontiguousarray(self.train.faces[few])
        _, embeddings = self.studio.decode(self.studio.encode(faces), np.zeros((len(few), CONTROL_SIZE), np.float32))
        known = (embeddings * np.asarray(self.train.embeddings)[few]).sum(1)
        unknown = self.similarity[: len(known)]
        both = min(len(known), len(unknown))
        self.metrics["memorisation"] = {
            "auc": entry,
            "auc_of_reconstruction": self._figure(metrics.auc, unknown[:both], known[:both], cost=3).as_json(),
        }

    def measure_fairness(self) -> None:
        """In-band rate, reconstruction and diversity of each group x gender of the labels."""
        low, high = self.band
        inside = ((self.first_similarity >= low) & (self.first_similarity <= high)).astype(np.float64)
        deep = self.variants.similarity
        inside[: self.deep] = ((deep >= low) & (deep <= high)).mean(1)
        above = (self.similarity >= low).astype(np.float64)
        groups, genders = self.test.groups[self.rows], self.test.genders[self.rows]
        labels = np.array(
            [
                f"{self.test.group_names[group]} {self.test.gender_names[gender]}" if min(group, gender) >= 0 else ""
                for group, gender in zip(groups, genders, strict=True)
            ]
        )
        rows: dict[str, Any] = {}
        for name in sorted(set(labels) - {""}):
            mine = labels == name
            of_deep = mine[: self.deep]
            rows[str(name)] = {
                "faces": int(mine.sum()),
                **_json(
                    {
                        "in_band": self._mean(inside[mine]),
                        "reconstruction_above_threshold": self._mean(above[mine]),
                        "reconstruction_similarity": self._mean(self.similarity[mine]),
                        "psnr": self._mean(self.signal[mine]),
                        "diversity": self._figure(
                            lambda mine: _ratio_of_means(mine, self.people), self.spread[of_deep]
                        ),
                    }
                ),
            }
        counted = [name for name, row in rows.items() if row["faces"] >= SMALL_GROUP]

        def gap(values: Array, names: Array) -> float:
            means = [values[names == name].mean() for name in counted if (names == name).any()]
            return float(100 * (values.mean() - min(means))) if means else float("nan")

        self.metrics["fairness"] = {
            "groups": rows,
            "smallest_group_counted": SMALL_GROUP,
            **_json(
                {
                    "in_band_gap": self._figure(gap, inside, labels).with_aim("<=", 5),
                    "reconstruction_gap": self._figure(gap, above, labels).with_aim("<=", 5),
                }
            ),
        }
        self.in_band_overall = float(inside.mean())

    def measure_baselines(self) -> None:
        """The same figures for the two baselines."""
        entry: dict[str, Any] = {}
        for name, variants in self.baselines.items():
            spread = self.looks.spread(variants.images)
            entry[name.replace(" ", "_")] = _json(
                {
                    **self.in_band(variants),
                    "diversity": self._figure(_ratio_of_means, spread, self.people[: len(spread)]),
                    **self.realism(self.baseline_firsts[name]),
                }
            )
        entry["latent_jitter"]["scale"] = self.jitter_scale
        self.metrics["baselines"] = entry

    # -- all of it -----------------------------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        """Measure every row; returns what `evaluation.json` holds."""
        for stage in (
            self.make,
            self.calibrate,
            self.make_baselines,
            self.measure_band,
            self.measure_reconstruction,
            self.measure_diversity,
            self.measure_realism,
            self.measure_recoverability,
            self.measure_controls,
            self.measure_random,
            self.measure_fairness,
            self.measure_baselines,
        ):
            with self._timed(stage.__name__):
                stage()
        self.metrics["settings"] = asdict(self.settings) | {"faces": self.deep, "wide": len(self.rows)}
        self.metrics["seconds"] = {name: round(seconds, 1) for name, seconds in self.clock.items()}
        return {"controls": self.controls, "thresholds": self.thresholds, "metrics": self.metrics}

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.clock[name] = time.perf_counter() - start
        print(f"{name.replace('_', ' ')}: {self.clock[name]:.0f} s", flush=True)

    def draw(self, out: Path) -> None:
        """Write plots and sheets. They show held-out and training faces."""
        names = [control["name"] for control in self.controls]
        impostors, mask = metrics.impostor_similarities(self.embeddings, self.test.clusters[self.rows])
        baselines = {name: variants.similarity for name, variants in self.baselines.items()}
        sheets.plot_similarities(
            out / "similarities.png",
            impostors[mask],
            self.variants.similarity,
            self.similarity,
            baselines,
            np.array(self.band),
        )
        sheets.plot_responses(out / "responses.png", self.found, names)
        sheets.plot_fairness(out / "fairness.png", self.metrics["fairness"]["groups"], self.in_band_overall)
        pairs = [face for row in range(min(48, self.deep)) for face in (self.sources[row], self.reconstructions[row])]
        captions = [text for row in range(len(pairs) // 2) for text in ("source", f"{self.similarity[row]:.2f}")]
        sheets.save_contact_sheet(out / "reconstructions.webp", pairs, captions, columns=12)
        low, high = self.band
        outside = np.maximum(low - self.variants.similarity, self.variants.similarity - high).clip(0).mean(1)
        order = np.argsort(outside - 0.1 * self.similarity[: self.deep], kind="stable")
        for name, rows in {
            "variants": np.arange(min(10, self.deep)),
            "best": order[:10],
            "worst": order[::-1][:10],
        }.items():
            sheets.save_cases(
                out / f"{name}.webp", self.sources, self.reconstructions, self.similarity, self.variants, rows
            )
        for index in range(min(3, len(self.sweeps))):
            sheets.save_sweeps(out / f"sweeps_{index + 1}.webp", self.sweeps[index], self.positions, names)
        some = self.random_faces[:60]
        sheets.save_contact_sheet(out / "random_identities.webp", list(some), [""] * len(some))
        closest = np.argsort(-self.nearest_similarity)[:24]
        pairs = [face for row in closest for face in (self.random_faces[row], self.train.faces[self.nearest[row]])]
        sheets.save_contact_sheet(
            out / "nearest_training_faces.webp",
            [np.asarray(face) for face in pairs],
            [text for row in closest for text in ("random", f"training {self.nearest_similarity[row]:.2f}")],
        )


def degrade(faces: Bytes) -> Bytes:
    """Faces [n, 128, 128, 3] blurred by a Gaussian of one pixel and saved as JPEG at quality 85."""
    rows = []
    for face in faces:
        buffer = BytesIO()
        Image.fromarray(face).filter(ImageFilter.GaussianBlur(1)).save(buffer, "JPEG", quality=85)
        rows.append(np.asarray(Image.open(buffer)))
    return np.stack(rows)


def _ratio_of_means(first: Array, second: Array) -> float:
    return float(first.mean() / max(float(second.mean()), 1e-12))


def _json(figures: dict[str, Figure]) -> dict[str, Any]:
    return {name: figure.as_json() for name, figure in figures.items()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `evaluate`."""
    defaults = Settings()
    parser.add_argument("data", type=Path, help="prepared faces")
    parser.add_argument("models", type=Path, help="folder with the ONNX files that are served")
    parser.add_argument("out", type=Path, help="folder for evaluation.json, plots and sheets")
    parser.add_argument(
        "--judge", type=Path, help="ONNX recogniser that training never saw; see model_export/evaluation/judge.py"
    )
    parser.add_argument("--card", type=Path, help="MODEL_CARD.md whose generated tables are to be written")
    for name, text in {
        "faces": "held-out faces with all random controls",
        "controls": "random controls a face",
        "wide": "held-out faces with one variant each, for realism and fairness",
        "baseline_faces": "faces of the baselines' in-band rate and diversity",
        "reference": "training faces for realism and the attribute probe",
        "sweep_faces": "faces on which each control is walked over its range",
        "random": "random identities",
        "seed": "of every choice and draw",
        "resamples": "of the faces, for the intervals; slow statistics take fewer",
        "steps": "of a control's walk from -1 to 1",
    }.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(defaults, name), help=text)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 takes them all")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, write everything and print the table; returns the exit status."""
    settings = Settings(**{name: getattr(arguments, name) for name in asdict(Settings())})
    evaluation = Evaluation(arguments.data, arguments.models, arguments.judge, settings, arguments.threads)
    result = evaluation.run()
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "evaluation.json").write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
    evaluation.draw(arguments.out)
    tables = card.tables(result)
    (arguments.out / "tables.md").write_text(tables)
    if arguments.card:
        card.write(arguments.card, tables)
    print(tables)
    return 0
