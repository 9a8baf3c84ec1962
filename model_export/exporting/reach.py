"""The reach: how far controls move a face, so that the variants of every face come to lie in the band.

Some faces are redrawn less well than others, and some controls change a face more. So the variants of one face fall out
of the band while those of another hardly leave the photograph. Which of them do cannot be told from the latent: what a
redrawing lacks is what the latent does not know. But the recogniser's embedding of the photograph is known beside it.

- `free` turns the latent so that its directions are sorted by how much they move pictures. The last 16 of them move
  next to nothing. The decoder becomes blind to them, and they are free to carry something else.
- `Surrogate` learns which embedding a variant will have, from the 54 that are left and the control: a network of three
  layers in place of the decoder and the recogniser.
- `Reach` puts into the free ones what of the photograph's embedding the other 54 do not tell, in the directions in
  which variants differ most. Over faces they have mean 0 and covariance 1 as the others do, and no correlation with
  them, so that an identity that is drawn at random has a reach as well.
- `tune` goes on learning, now by what the two are for: how alike a variant and its photograph will be.
- `Gain` recalls the photograph's embedding from all 70, asks the surrogate how alike the variant would be, and scales
  the control until that is where it should be.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from app.core.faces import EMBEDDING_SIZE
from model_export.networks.generator import CONTROL_SIZE, IDENTITY_SIZE, Decoder, Encoder, mixed_precision
from model_export.networks.pretrained import FrozenRecognizer
from model_export.pictures import to_tensor
from model_export.preparing.dataset import FaceSet

FREE_SIZE = 16
PORTRAIT_SIZE = IDENTITY_SIZE - FREE_SIZE
"""Of the latent: the entries that say what is drawn."""
TYPICAL_LENGTH = (CONTROL_SIZE / 3) ** 0.5
"""Of a control vector that is uniform in the cube [-1, 1]^10: the root of its mean square."""
LENGTHS = 1.2, 10**0.5
"""Between them a longer control vector gets a smaller gain."""
GAINS = 0.65, 2.0
"""Least and largest gain for a direction. Beyond, more variants would not come into the band, and the controls of a
variant could be told less well from its picture."""
AIM = 0.57
"""Where in the band variants should lie, 0 at its lower edge and 1 at its upper one."""
HELD_BACK = 0.1
"""Of the faces: the surrogate does not learn from them, and what it is worth is measured on them."""
GAINS_OBSERVED = 0.6, 1.8


class Surrogate(nn.Module):
    """An identity and a control -> the embedding that the recogniser will see in the variant, for far less work.

    Args:
        width: of the hidden layers.
        dropout: share of hidden entries that are left out in learning.
    """

    def __init__(self, width: int = 768, dropout: float = 0.1) -> None:
        super().__init__()
        sizes = PORTRAIT_SIZE + CONTROL_SIZE, width, width, width
        hidden = [
            layer
            for taken, given in pairwise(sizes)
            for layer in (nn.Linear(taken, given), nn.LeakyReLU(0.2), nn.Dropout(dropout))
        ]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, EMBEDDING_SIZE))

    def forward(self, identity: Tensor, control: Tensor) -> Tensor:
        """Identities [n, 70] and controls [n, 10] -> expected unit vectors [n, 192], themselves shorter than that."""
        # Entries of a control are uniform in [-1, 1]; a layer wants a deviation of 1.
        embedding: Tensor = self.layers(torch.cat([identity[:, :PORTRAIT_SIZE], control * 3**0.5], dim=1))
        return embedding


class Reach(nn.Module):
    """Puts into the free entries of an identity what the others do not tell of its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.remainder = nn.Linear(PORTRAIT_SIZE + EMBEDDING_SIZE, FREE_SIZE)

    def forward(self, identity: Tensor, embedding: Tensor) -> Tensor:
        """Identities [n, 70] and embeddings of the photographs [n, 192] -> identities [n, 70]."""
        portrait = identity[:, :PORTRAIT_SIZE]
        return torch.cat([portrait, self.remainder(torch.cat([portrait, embedding], dim=1))], dim=1)


class Gain(nn.Module):
    """Scales controls so that the variant is about as alike as it should be.

    The gain of a direction is the same for all control vectors along it, so half the strength moves a face half as far;
    only that vectors longer than usual get somewhat less, by the root of their length.

    Args:
        surrogate: what variants look like to the recogniser.
        aim: cosine between photograph and variant to aim at, on the average.
    """

    def __init__(self, surrogate: Surrogate, aim: float) -> None:
        super().__init__()
        self.surrogate, self.aim = surrogate, aim
        self.recall = nn.Linear(IDENTITY_SIZE, EMBEDDING_SIZE)
        self.scale, self.offset, self.slope = 1.0, 0.0, -0.1
        """similarity = offset + scale * cosine; slope = its change for e times the control."""

    def expect(self, identity: Tensor, control: Tensor) -> Tensor:
        """Identities [n, 70] and controls [n, 10] as the decoder gets them -> similarities to expect [n, 1]."""
        cosine = (self.surrogate(identity, control) * self.recall(identity)).sum(1, keepdim=True)
        return self.offset + self.scale * cosine

    def forward(self, identity: Tensor, control: Tensor) -> Tensor:
        """Identities [n, 70] and controls [n, 10] -> the controls [n, 10] that the decoder is to follow; 0 stays 0."""
        # Entry by entry: how ONNX Runtime sums such short rows depends on where in the batch they lie, and in int8 the
        # last digit becomes levels of a pixel.
        length = reduce(torch.add, control.square().split(1, dim=1)).sqrt()
        typical = control * (TYPICAL_LENGTH / length.clamp(min=1e-6))
        least, most = map(math.log, GAINS)
        exponent = torch.zeros_like(length)
        for _ in range(2):  # Newton's steps, with the slope of all; a third changes nothing to speak of
            missing = self.aim - self.expect(identity, typical * exponent.exp())
            exponent = (exponent + missing / self.slope).clamp(least, most)
        return control * exponent.exp() * (TYPICAL_LENGTH / length.clamp(*LENGTHS)).sqrt()


@dataclass(frozen=True)
class Observed:
    """Variants of faces as the recogniser sees them.

    Attributes:
        identity, embedding: [n, 70] and [n, 192], of the faces.
        control: [n, 10], as the decoder got them.
        variants: [n, 192], embeddings of the variants.
    """

    identity: Tensor
    embedding: Tensor
    control: Tensor
    variants: Tensor

    def __getitem__(self, rows: slice | Tensor) -> Observed:
        return Observed(self.identity[rows], self.embedding[rows], self.control[rows], self.variants[rows])

    @property
    def similarity(self) -> Tensor:
        """Of each variant to its source, [n]."""
        return (self.variants * self.embedding).sum(1)


@torch.no_grad()
def free(decoder: Decoder, encoder: Encoder, latents: Tensor, step: float = 0.5) -> float:
    """Turn the latent of both networks in place, strongest directions first, and make the decoder blind to the last 16.

    A rotation leaves a standard normal latent one.

    Args:
        decoder, encoder: the networks, whitened.
        latents: some places [n, 70] to look at pictures around.
        step: how far to go along each direction.

    Returns:
        Share of the mean squared change of pictures that lies in the directions given up.
    """
    gram = torch.zeros(IDENTITY_SIZE, IDENTITY_SIZE, dtype=torch.float64)
    for latent in latents:
        around = torch.cat([latent[None], latent + step * torch.eye(IDENTITY_SIZE)])
        pictures = decoder(around, torch.zeros(len(around), CONTROL_SIZE)).flatten(1).double()
        moved = pictures[1:] - pictures[:1]
        gram += moved @ moved.T
    strengths, directions = torch.linalg.eigh(gram)
    strengths, directions = strengths.flip(0), directions.flip(1)
    last = encoder.head[-1]
    assert isinstance(last, nn.Linear)
    last.weight[:IDENTITY_SIZE] = (directions.T @ last.weight[:IDENTITY_SIZE].double()).float()
    last.bias[:IDENTITY_SIZE] = (directions.T @ last.bias[:IDENTITY_SIZE].double()).float()
    for first in (decoder.identity_style[0], decoder.start):
        assert isinstance(first, nn.Linear)
        first.weight.copy_((first.weight.double() @ directions).float())
        first.weight[:, PORTRAIT_SIZE:] = 0
    return float(strengths[PORTRAIT_SIZE:].sum() / strengths.sum())


@torch.no_grad()
def observe(
    encoder: Encoder,
    decoder: Decoder,
    recognizer: FrozenRecognizer,
    faces: FaceSet,
    count: int,
    seed: int = 2,
) -> Observed:
    """Draw a variant of each of `count` random faces (of all, if there are fewer), one of its mirror image, and look.

    Controls are random, those of the faces at full strength and those of the mirror images more or less. Two rows a
    face, one after the other: to the networks a mirrored face is another one, and tells more than a second control.
    """
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(faces))[:count]
    controls = random.uniform(-1, 1, (2 * len(chosen), CONTROL_SIZE)).astype(np.float32)
    controls[1::2] *= random.uniform(*GAINS_OBSERVED, (len(chosen), 1)).astype(np.float32)
    identities, embeddings, variants = [], [], []
    for start in range(0, len(chosen), 16):
        rows = chosen[start : start + 16]
        control = torch.from_numpy(controls[2 * start : 2 * (start + 16)])
        upright = faces.faces[rows]
        pictures = np.stack([upright, upright[:, :, ::-1]], axis=1)
        known = np.stack([faces.embeddings[rows], faces.embeddings_mirrored[rows]], axis=1)
        images = to_tensor(pictures.reshape(-1, *pictures.shape[2:]))
        embedding = torch.from_numpy(known).flatten(0, 1)
        identity, _ = encoder(images, embedding)
        with mixed_precision(images.device):  # twice as fast, and not what limits the surrogate
            seen = recognizer(decoder(identity, control))
        identities.append(identity)
        embeddings.append(embedding)
        variants.append(seen)
    return Observed(torch.cat(identities), torch.cat(embeddings), torch.from_numpy(controls), torch.cat(variants))


def learn(observed: Observed, epochs: int = 60, batch: int = 256, rate: float = 2e-3, seed: int = 0) -> Surrogate:
    """Fit the surrogate by least squares on the embeddings of the variants."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        surrogate = Surrogate()

        def loss(some: Observed) -> Tensor:
            return (surrogate(some.identity, some.control) - some.variants).square().sum(1).mean()

        _descend(loss, list(surrogate.parameters()), observed, epochs, batch, rate)
    return surrogate.eval().requires_grad_(False)


def _descend(
    loss: Callable[[Observed], Tensor],
    parameters: list[nn.Parameter],
    observed: Observed,
    epochs: int,
    batch: int,
    rate: float,
) -> None:
    """Fit parameters to random batches, the rate going up and down once."""
    steps = max(1, epochs * len(observed.variants) // batch)
    optimizer = torch.optim.AdamW(parameters, rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps + 1)
    for _ in range(steps):
        error = loss(observed[torch.randint(len(observed.variants), (batch,))])
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        schedule.step()


def _affine(given: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Least squares: the matrix [d, m] and the vector [m] with wanted = given @ matrix + vector."""
    solution = torch.linalg.lstsq(torch.cat([given, torch.ones_like(given[:, :1])], dim=1), wanted).solution
    return solution[:-1], solution[-1]


@torch.no_grad()
def fit_reach(observed: Observed, surrogate: Surrogate) -> tuple[Reach, nn.Linear]:
    """What goes into the free entries, and how the embedding is recalled from all.

    Of what the portrait does not tell of the embedding, those directions are kept that have the most to say of the
    cosine to variants: principal components in the metric of the variants' second moments.

    Returns:
        The reach, and the layer from identities [n, 70] to embeddings [n, 192].
    """
    portrait, embedding = observed.identity[:, :PORTRAIT_SIZE].double(), observed.embedding.double()
    matrix, vector = _affine(portrait, embedding)
    rest = embedding - portrait @ matrix - vector
    variants = surrogate(observed.identity, observed.control).double()
    # 1e-6 of a variance of 5e-3: keeps the factor invertible where an embedding has no spread.
    factor = torch.linalg.cholesky(torch.cov(rest.T) + 1e-6 * torch.eye(EMBEDDING_SIZE))
    _, directions = torch.linalg.eigh(factor.T @ (variants.T @ variants) @ factor)
    kept = directions.flip(1)[:, :FREE_SIZE]
    take, give = torch.linalg.solve_triangular(factor.T, kept, upper=True), factor @ kept
    reach, recall = Reach(), nn.Linear(IDENTITY_SIZE, EMBEDDING_SIZE)
    reach.remainder.weight.copy_(torch.cat([-matrix @ take, take]).T)
    reach.remainder.bias.copy_(-vector @ take)
    recall.weight.copy_(torch.cat([matrix, give.T]).T)
    recall.bias.copy_(vector)
    return reach.requires_grad_(False), recall.requires_grad_(False)


@torch.enable_grad()
def tune(
    observed: Observed,
    reach: Reach,
    recall: nn.Linear,
    surrogate: Surrogate,
    epochs: int = 8,
    batch: int = 256,
    rate: float = 3e-4,
    weight: float = 100.0,
    seed: int = 0,
) -> tuple[nn.Linear, Surrogate]:
    """Go on fitting copies of recall and surrogate, with the error of similarity beside that of embeddings.

    A hundred times the error of similarity is about as much as that of the 192 entries of an embedding.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        recall = copy.deepcopy(recall).requires_grad_(True)
        surrogate = copy.deepcopy(surrogate).train().requires_grad_(True)

        def loss(some: Observed) -> Tensor:
            identity = reach(some.identity, some.embedding)
            expected = surrogate(identity, some.control)
            missing = some.similarity - (expected * recall(identity)).sum(1)
            # Not the mean: `fit` sets it on the faces that were held back.
            return (expected - some.variants).square().sum(1).mean() + weight * missing.var(unbiased=False)

        _descend(loss, [*recall.parameters(), *surrogate.parameters()], observed, epochs, batch, rate)
    return recall.requires_grad_(False), surrogate.eval().requires_grad_(False)


@torch.no_grad()
def fit(observed: Observed, band: tuple[float, float], surrogate: Surrogate) -> tuple[Reach, Gain, float]:
    """The reach and the gain of a surrogate that has learnt from all but the first tenth of the faces.

    Args:
        observed: variants of training faces; held-out ones would flatter the evaluation.
        band: least and largest cosine of the recogniser between a face and its variant.
        surrogate: see `learn`.

    Returns:
        The reach, the gain, and the share of the variance of similarities that is foreseen (R^2 on the first tenth).

    Raises:
        ValueError: larger controls do not make variants less alike; the decoder has not learnt to heed them.
    """
    held, learnt = held_back(observed)
    reach, recall = fit_reach(learnt, surrogate)
    recall, surrogate = tune(learnt, reach, recall, surrogate)
    gain = Gain(surrogate, band[0] + AIM * (band[1] - band[0]))
    gain.recall = recall
    identity, control = reach(held.identity, held.embedding), held.control
    raw = gain.expect(identity, control)
    wanted = held.similarity[:, None]
    scale, offset = _affine(raw, wanted)
    gain.scale, gain.offset = float(scale), float(offset)
    expected = gain.expect(identity, control)
    gain.slope = float((gain.expect(identity, control * 1.1) - expected).mean() / math.log(1.1))
    lengths = torch.stack([observed.control.norm(dim=1).log(), observed.similarity])
    heeded = -float(torch.corrcoef(lengths)[0, 1])
    # What chance makes of n rows has a deviation of 1 / sqrt(n).
    if heeded < 3 / len(observed.control) ** 0.5 or gain.slope >= 0 or gain.scale <= 0:
        raise ValueError("larger controls do not make variants less alike: train on before exporting with --data")
    foreseen = 1 - float((wanted - expected).var() / wanted.var())
    return reach, gain, foreseen


def held_back(observed: Observed) -> tuple[Observed, Observed]:
    """The faces to measure on, and those to learn from."""
    count = max(2, 2 * round(HELD_BACK * len(observed.identity) / 2))  # a face and its mirror image stay together
    return observed[:count], observed[count:]
