"""Which decoder is served: exact or rounded to int8, by what is asked for and what the machine and the model have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.core import models
from app.core.generate import Generator, sample_controls
from app.core.models import decoder_role
from app.errors import ModelsInvalid, ProviderUnavailable
from app.runtime import sessions
from app.runtime.manifest import Manifest, parse_manifest
from app.settings import Settings


@pytest.fixture
def manifest() -> Manifest:
    return parse_manifest(Settings().models)


@pytest.fixture
def exact_only(manifest: Manifest) -> Manifest:
    """Of a model that was exported without int8."""
    files = {role: file for role, file in manifest.files.items() if role != "decoder_int8"}
    return Manifest.model_validate(manifest.model_dump(by_alias=True) | {"files": files})


@pytest.mark.parametrize(
    ("precision", "device", "fast", "role"),
    [
        ("auto", "cpu", True, "decoder_int8"),
        ("auto", "cpu", False, "decoder"),
        ("auto", "cuda", True, "decoder"),
        ("float32", "cpu", True, "decoder"),
        ("float32", "cuda", True, "decoder"),
        ("float16", "cuda", True, "decoder"),
        ("int8", "cpu", False, "decoder_int8"),
    ],
)
def test_int8_where_it_was_asked_for_or_is_faster(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch, precision: str, device: str, fast: bool, role: str
) -> None:
    monkeypatch.setattr(models, "multiplies_bytes", lambda: fast)
    assert decoder_role(Settings(precision=precision, device=device), manifest) == role


def test_a_model_without_int8_is_served_exactly(exact_only: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "multiplies_bytes", lambda: True)
    assert decoder_role(Settings(precision="auto", device="cpu"), exact_only) == "decoder"
    with pytest.raises(ModelsInvalid, match="has no decoder in int8"):
        decoder_role(Settings(precision="int8", device="cpu"), exact_only)


def test_int8_on_a_gpu_is_refused(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "wants_cuda", lambda _: True)
    with pytest.raises(ProviderUnavailable, match="int8 is for the CPU"):
        decoder_role(Settings(precision="int8", device="auto"), manifest)


def test_float16_without_a_gpu_is_refused(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "wants_cuda", lambda _: False)
    with pytest.raises(ProviderUnavailable, match="float16 is for CUDA"):
        decoder_role(Settings(precision="float16", device="auto"), manifest)


@pytest.mark.parametrize(
    ("flags", "fast"),
    [("fpu sse avx2 avx512f avx512_vnni", True), ("fpu avx_vnni", True), ("fpu avx2 avx512f", False)],
)
def test_the_cpu_says_whether_it_is_fast_at_int8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, fast: bool
) -> None:
    (tmp_path / "cpuinfo").write_text(f"model name\t: any\nflags\t\t: {flags}\n")
    monkeypatch.setattr(sessions, "CPU_INFO", tmp_path / "cpuinfo")
    assert sessions.multiplies_bytes() is fast
    monkeypatch.setattr(sessions, "CPU_INFO", tmp_path / "nothing")
    assert sessions.multiplies_bytes() is False


@pytest.mark.parametrize(
    ("quota", "allowed"),
    [("max 100000", 8), ("150000 100000", 2), ("50000 100000", 1), ("6400000 100000", 8), ("nonsense", 8), (None, 8)],
)
def test_cores_are_those_that_the_container_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str | None, allowed: int
) -> None:
    monkeypatch.setattr(sessions.os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(sessions, "CPU_QUOTA", tmp_path / "cpu.max")
    if quota:
        (tmp_path / "cpu.max").write_text(quota + "\n")
    assert sessions.cores() == allowed


@pytest.mark.parametrize("threads", [1, 2])
def test_a_face_in_int8_does_not_depend_on_its_company(threads: int) -> None:
    generator = Generator(Settings().models, "cpu", threads, "decoder_int8.onnx")
    identities = np.random.default_rng(4).standard_normal((9, 70), np.float32)
    controls = sample_controls(4, 9, 1.0)
    images, scores = generator.decode(identities, controls)
    for count in (1, 2, 3, 4, 5, 7, 8):
        some, their_scores = generator.decode(identities[:count], controls[:count])
        assert np.array_equal(some, images[:count])
        np.testing.assert_allclose(their_scores, scores[:count], atol=1e-6)


@pytest.mark.skipif(not sessions.wants_cuda("auto"), reason="there is no GPU")
@pytest.mark.parametrize(("half", "least"), [(False, 50.0), (True, 40.0)])
def test_cuda_draws_what_the_cpu_draws(half: bool, least: float) -> None:
    """To so many dB of peak signal-to-noise ratio: what TensorFloat-32 and float16 round is no more than that."""
    models = Settings().models
    cpu, cuda = Generator(models, "cpu", 1), Generator(models, "cuda", half=half)
    random = np.random.default_rng(6)
    faces = random.integers(0, 256, (4, 128, 128, 3), np.uint8)
    for one, other in zip(cpu.encode(faces), cuda.encode(faces), strict=True):
        np.testing.assert_allclose(one, other, atol=0.02)
    identities, controls = random.standard_normal((8, 70), np.float32), sample_controls(6, 8, 1.0)
    (images, scores), (their_images, their_scores) = (
        generator.decode(identities, controls) for generator in (cpu, cuda)
    )
    error = np.square(images.astype(np.float64) - their_images).mean()
    assert 10 * np.log10(255**2 / max(error, 1e-12)) > least
    np.testing.assert_allclose((scores * their_scores).sum(1), 1, atol=0.02)


def test_several_threads_encode_a_face_to_the_same_bits() -> None:
    models = Settings().models
    faces = np.random.default_rng(5).integers(0, 256, (4, 128, 128, 3), np.uint8)
    alone, *others = (Generator(models, "cpu", threads) for threads in (1, 2, 3))
    for count in (1, 2, 4):
        expected = alone.encode(faces[:count])
        for generator in others:
            for one, other in zip(expected, generator.encode(faces[:count]), strict=True):
                assert np.array_equal(one, other)


def test_int8_draws_the_same_faces() -> None:
    models = Settings().models
    identities = np.random.default_rng(3).standard_normal((8, 70), np.float32)
    controls = sample_controls(3, 8, 1.0)
    exact, scores = Generator(models, "cpu", 1).decode(identities, controls)
    rounded, other_scores = Generator(models, "cpu", 1, "decoder_int8.onnx").decode(identities, controls)
    error = np.square(exact.astype(float) - rounded).mean()
    assert error > 0
    assert 10 * np.log10(255**2 / error) > 38
    assert (scores * other_scores).sum(1).min() > 0.98
