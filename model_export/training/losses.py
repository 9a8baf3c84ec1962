"""The losses of the training, each one a pure function of tensors that returns a scalar.

Images are [n, 3, 128, 128] in [-1, 1]; feature maps are lists of [n, channels, h, w] of unit length over the channels;
embeddings are unit vectors [n, 192]; logits are [n, stages].
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def adversarial(winner: Tensor, loser: Tensor) -> Tensor:
    """Relativistic pairing loss (Jolicoeur-Martineau 2019; R3GAN, Huang et al. 2024): winner's logits above loser's.

    The discriminator calls it with (real, fake), the generator with (fake, real).
    """
    return F.softplus(loser - winner).mean()


def gradient_penalty(logits: Tensor, inputs: list[Tensor]) -> Tensor:
    """R1 on real and R2 on fake inputs (Mescheder et al. 2018): squared norm of the logits' gradient, mean over n.

    `inputs` are what the discriminator saw, with `requires_grad` set. The graph is kept, for the second derivative.
    """
    gradients = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
    return torch.stack([gradient.float().square().sum((1, 2, 3)).mean() for gradient in gradients]).sum()


def focus_map(points: Tensor, size: int, strengths: Tensor, radius: float = 0.08, elsewhere: float = 1.0) -> Tensor:
    """How much places [1, 1, size, size] of a face count, mean 1: `elsewhere`, and a strength more at points [k, 2].

    Points and `radius` are in units of the side.

    Strengths are [k], or [1] for all, of Gaussians of deviation `radius`. Eyes are a hundredth of a picture, and what
    one looks at.
    """
    grid = (torch.arange(size) + 0.5) / size
    across = (-(grid[None] - points[:, :1]).square() / (2 * radius**2)).exp()
    down = (-(grid[None] - points[:, 1:]).square() / (2 * radius**2)).exp()
    weight = elsewhere + (strengths[:, None, None] * down[:, :, None] * across[:, None, :]).amax(0)
    return (weight / weight.mean())[None, None]


def pixel(image: Tensor, target: Tensor, focus: Tensor | None = None) -> Tensor:
    """L1 distance at full and at half resolution, at places weighted by a map [1, 1, 128, 128] of mean 1."""
    difference = image - target
    halved = F.avg_pool2d(difference, 2)
    return _weighed(difference.abs(), focus).mean() + _weighed(halved.abs(), focus).mean()


def feature_distance(first: list[Tensor], second: list[Tensor], focus: Tensor | None = None) -> Tensor:
    """How different two images look, [n]: L2 distance of unit-length features, mean over places and stages (LPIPS)."""
    distances = [
        _weighed((a - b).float().square().sum(1, keepdim=True), focus).mean((1, 2, 3))
        for a, b in zip(first, second, strict=True)
    ]
    return torch.stack(distances).mean(0)


def _weighed(distances: Tensor, focus: Tensor | None) -> Tensor:
    """Distances [n, c, h, w], each times what its place counts."""
    return (
        distances
        if focus is None
        else distances * F.adaptive_avg_pool2d(focus, (distances.shape[2], distances.shape[3]))
    )


def perceptual(features: list[Tensor], target: list[Tensor], focus: Tensor | None = None) -> Tensor:
    """Mean feature distance of images and their targets."""
    return feature_distance(features, target, focus).mean()


def texture(maps: list[Tensor], target: list[Tensor], cells: int) -> Tensor:
    """Distance of local statistics: mean and deviation of each channel in cells x cells parts of the picture.

    Unlike `perceptual` it does not ask a hair to lie where it lay, only for as much hair: what cannot be placed exactly
    is drawn all the same instead of blurred (DISTS, Ding et al. 2020). Maps have entries of order 1.
    """
    distances = []
    for a, b in zip(maps, target, strict=True):
        mean_a, deviation_a = _local_statistics(a, cells)
        mean_b, deviation_b = _local_statistics(b, cells)
        distances.append((mean_a - mean_b).abs().mean() + (deviation_a - deviation_b).abs().mean())
    return torch.stack(distances).mean()


def matching(bias: list[Tensor], memory: float) -> Tensor:
    """Feature matching (Salimans et al. 2016): squared difference of mean features, drawn faces to their targets.

    What every drawn face has too much or too little of counts; what one has and another lacks does not. `bias` is what
    `RunningBias.update` gives. It pulls as hard as one batch would whose means were known as well as those of many.
    """
    return torch.stack([value.square().mean() for value in bias]).mean() / (1 - memory)


def embedding_bias(bias: Tensor, memory: float) -> Tensor:
    """Squared length of the difference [d] of mean embeddings, drawn faces to their targets; see `matching`."""
    return bias.square().sum() / (1 - memory)


def _local_statistics(maps: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    mean = F.adaptive_avg_pool2d(maps, cells)
    variance = F.adaptive_avg_pool2d(maps.square(), cells) - mean.square()
    return mean, (variance.clamp(min=0) + 1e-4).sqrt()


def identity(embedding: Tensor, target: Tensor) -> Tensor:
    """1 - cosine of the recogniser's embeddings."""
    return (1 - (embedding * target).sum(1)).mean()


def evenness(embedding: Tensor, target: Tensor) -> Tensor:
    """Mean square of 1 - cosine: faces that are redrawn badly count more than those that are redrawn well already."""
    return (1 - (embedding * target).sum(1)).square().mean()


def corridor(control: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """The similarities [n] between which a variant should lie, given its control [n, 10].

    Far from 0 (root mean square >= 0.35) that is [low, high]; towards 0 both walls rise to 1.
    """
    radius = (control.square().mean(1).sqrt() / 0.35).clamp(max=1)
    return 1 - (1 - low) * radius, 1 - (1 - high) * radius


def band(similarity: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """How far similarities [n] stand outside their corridor."""
    return (F.relu(low - similarity) + F.relu(similarity - high)).mean()


def mutual_information(mean: Tensor, log_deviation: Tensor, control: Tensor) -> Tensor:
    """InfoGAN's bound: negative log-likelihood of the control under Q, in nats a dimension; deviation in [0.25, 1]."""
    # A soft floor and ceiling: a hard clamp would stop the gradient of the deviation.
    # Below 0.25 a control is read well enough: a lower floor let easy controls outweigh dead ones a hundredfold.
    low, high = math.log(0.25), 0.0
    log_deviation = low + (high - low) * torch.sigmoid(log_deviation)
    return (0.5 * ((control - mean) / log_deviation.exp()).square() + log_deviation).mean()


def latent_cycle(recovered: Tensor, latent: Tensor) -> Tensor:
    """L1 distance of the latent that the encoder reads off a generated face to the one it was made from."""
    return (recovered - latent).abs().mean()


def diversity(distance: Tensor, control_distance: Tensor, limit: float) -> Tensor:
    """Minus the change of look per change of control, up to `limit` (mode seeking, Mao et al. 2019).

    `distance` [n] is the feature distance of two variants of one face, `control_distance` [n] the root mean square
    difference of their controls.
    """
    return -(distance / (control_distance + 1e-3)).clamp(max=limit).mean() / limit


def colour_shift(variant: Tensor, reconstruction: Tensor) -> Tensor:
    """L1 distance of the coarse chroma and of the mean luminance of a variant to its reconstruction's.

    The cheapest variety is a colour cast. It is not what anybody wants of a look-alike.
    """
    difference = F.adaptive_avg_pool2d(variant - reconstruction, 16)
    luma = difference.mean(1, keepdim=True)
    return (difference - luma).abs().mean() + luma.mean((2, 3)).abs().mean()


def unlike_eyes(variant: Tensor, reconstruction: Tensor, eyes: Tensor) -> Tensor:
    """L1 distance between what a control does to one eye and, mirrored, to the other, at half resolution.

    Recognisers make do with one eye, so the other comes to carry what tells variants apart. `eyes` is a map
    [1, 1, 128, 128] of mean 1 that is its own mirror image.
    """
    change = F.avg_pool2d(variant - reconstruction, 2)
    return _weighed((change - change.flip(3)).abs(), eyes).mean()


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the encoder's distribution to the standard normal, in nats a dimension."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()


def moments(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Distance of the batch's first two moments, in each dimension, to those of a standard normal.

    The divergence alone, at the small weight that a sharp reconstruction needs, leaves latents far from the prior.
    """
    variance = mean.var(0) + log_variance.exp().mean(0)
    return mean.mean(0).square().mean() + (variance - 1).square().mean()


def attribute_shift(change: Tensor, control: Tensor, step: float) -> Tensor:
    """Semi-supervision: the first attribute follows the first control, the others stay put.

    `change` [n, k] is the change of the probed attributes (age first) from the reconstruction to the variant, in
    standard deviations of the population; `control` [n, 10]; `step` is what the first control moves age at its full
    value.
    """
    wanted = torch.zeros_like(change)
    wanted[:, 0] = step * control[:, 0]
    return F.smooth_l1_loss(change, wanted, beta=0.25)


def steering(change: Tensor, control: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """Semi-supervision: features of the face follow the controls that are named after them, the others stay put.

    `change` [n, k] is the change of the features from redrawing to variant, in standard deviations of people; `wanted`
    [m, k] what each of the last m of the controls [n, 10] moves at its full value; `weights` [k] what a feature counts.
    """
    steered = control[:, -len(wanted) :]
    return ((change - steered @ wanted).square() * weights).mean()


def landmarks(points: Tensor, target: Tensor, limit: float) -> Tensor:
    """L1 distance of landmarks [n, 68, 2]; a point farther off than `limit` was not found, and pulls no more."""
    return (points - target).abs().clamp(max=limit).mean() / limit


def phases(images: Tensor) -> Tensor:
    """No grid of period two: steps between neighbouring pixels are as large at even places as at odd ones.

    All frozen networks begin with a stride of two, so none can see such a grid. Of luminance, in parts of 18 x 18
    pixels; of the mixed difference the same for the four phases.
    """
    grey = images.float().mean(1, keepdim=True)
    even_side = 18 * ((grey.shape[-1] - 2) // 18)
    total = torch.zeros((), device=images.device)
    for plane in (grey, grey.transpose(2, 3)):
        steps = (plane[..., 1:] - plane[..., :-1]).abs()
        even, odd = (F.avg_pool2d(steps[..., start : start + even_side : 2], (18, 9)) for start in (0, 1))
        total = total + (2 * (even - odd) / (even + odd + 2e-3)).square().mean()
    mixed = (grey[..., 1:, 1:] - grey[..., 1:, :-1] - grey[..., :-1, 1:] + grey[..., :-1, :-1]).abs()
    four = torch.stack(
        [F.avg_pool2d(mixed[..., i : i + even_side : 2, j : j + even_side : 2], 9) for i in (0, 1) for j in (0, 1)]
    )
    mean = four.mean(0)
    return total + 4 * ((four - mean) / (mean + 1e-3)).square().mean()


def seams(images: Tensor) -> Tensor:
    """No row or column at which the mean step stands out from its neighbours', over a whole batch."""
    grey = images.float().mean(1, keepdim=True)
    total = torch.zeros((), device=images.device)
    for plane in (grey, grey.transpose(2, 3)):
        profile = (plane[..., 1:] - plane[..., :-1]).abs().mean((0, 1, 2)) + 1e-3
        around = F.avg_pool1d(F.pad(profile[None, None], (3, 3), mode="replicate"), 7, 1)[0, 0]
        total = total + (profile / around).log().square().mean()
    return total
