"""A look at how far a run has come: held-out faces, drawn with the averaged weights."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from model_export.networks.generator import CONTROL_SIZE, mixed_precision
from model_export.pictures import psnr, to_bytes, to_tensor
from model_export.preparing.dataset import FaceSet
from model_export.training.judges import Judge
from model_export.training.networks import Networks

MEASURED = 64
"""Held-out faces that the figures are of."""


@torch.no_grad()
def preview(
    networks: Networks, service: Judge, held_out: FaceSet, rows: int = 8, columns: int = 8
) -> tuple[Image.Image, dict[str, float]]:
    """A sheet of held-out faces (source, c = 0, random controls), and the figures of a few more."""
    device, random = networks.device, torch.Generator().manual_seed(1)
    chosen = torch.randperm(len(held_out), generator=random)[:MEASURED].sort().values.numpy()
    source = to_tensor(held_out.faces[chosen], device)
    embedding = torch.from_numpy(held_out.embeddings[chosen]).to(device)
    controls = (torch.rand(columns, CONTROL_SIZE, generator=random) * 2 - 1).to(device)
    with mixed_precision(device):
        latent, _ = networks.averaged_encoder(source, embedding)
        plain = networks.averaged_decoder(latent, torch.zeros(len(latent), CONTROL_SIZE, device=device))
        varied = torch.stack(
            [networks.averaged_decoder(latent, control.expand(len(latent), -1)) for control in controls], 1
        )
    similar = (service(plain) * embedding).sum(1)
    variants = (service(varied.flatten(0, 1)).view(len(latent), columns, -1) * embedding[:, None]).sum(2)
    low, high = service.config.band
    figures = {
        "held_out_psnr": float(psnr(plain, source).mean()),
        "held_out_similarity": float(similar.median()),
        "held_out_variant_similarity": float(variants.median()),
        "held_out_in_band": float(((variants > low) & (variants < high)).float().mean()),
        "held_out_variant_change": float((varied - plain[:, None]).abs().mean()),
    }
    shown = torch.cat([source[:, None], plain[:, None], varied], 1)[:: max(1, MEASURED // rows)][:rows]
    return _sheet(shown), figures


def _sheet(images: Tensor) -> Image.Image:
    """Images [rows, columns, 3, s, s] in [-1, 1], in rows and columns."""
    rows, columns = images.shape[:2]
    faces = to_bytes(images.flatten(0, 1)).unflatten(0, (rows, columns))
    return Image.fromarray(faces.permute(0, 2, 1, 3, 4).flatten(2, 3).flatten(0, 1).cpu().numpy())
