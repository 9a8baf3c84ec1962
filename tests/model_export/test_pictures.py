"""Bytes and tensors: there and back, and how far apart."""

import math

import numpy as np
import pytest
import torch

from model_export.pictures import psnr, to_bytes, to_tensor


def test_every_byte_comes_back():
    faces = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    images = to_tensor(faces)
    assert images.shape == (1, 3, 16, 16)
    assert (images.min(), images.max()) == (-1, 1)
    assert np.array_equal(to_bytes(images).numpy(), faces)
    assert to_bytes(torch.full((1, 3, 2, 2), 1.5)).unique().tolist() == [255]


def test_psnr_of_a_known_error():
    image = np.full((2, 8, 8, 3), 100, np.uint8)
    off = image.copy()
    off[1] += 10
    perfect, known = psnr(to_tensor(off), to_tensor(image)).tolist()
    assert 100 < perfect < math.inf
    assert known == pytest.approx(10 * math.log10(255**2 / 100), abs=1e-4)
