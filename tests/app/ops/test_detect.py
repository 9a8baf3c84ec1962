"""`python -m app detect` and what `doctor` says of the layers."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.__main__ import main
from app.core.generate import CONTROL_SIZE, IDENTITY_SIZE, Generator
from app.core.origin import Origin, packed_version, unpacked_version
from app.core.provenance import Provenance
from app.ops.doctor import Report, origin
from app.settings import Settings
from tests.app.chain import make_chain


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face of nobody, as it leaves."""
    random = np.random.default_rng(2)
    generator = Generator(Settings().models, "cpu", 1)
    controls = np.zeros((1, CONTROL_SIZE), np.float32)
    images, _ = generator.decode(random.standard_normal((1, IDENTITY_SIZE), np.float32), controls)
    path = tmp_path_factory.mktemp("drawn") / "drawn.jpg"
    (file,) = Origin(Settings(installation=7)).files(images, "jpeg", 95, Provenance("lookalike", "1.2.3", "0123"))
    path.write_bytes(file)
    return path


def test_a_row_a_picture(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKALIKE_DEVICE", "cpu")
    grey = tmp_path / "grey.png"
    Image.new("RGB", (200, 150), "gray").save(grey)
    assert main(["detect", str(drawn), str(grey)]) == 0
    _, first, second, last = capsys.readouterr().out.splitlines()
    assert first.split()[:2] == [str(drawn), "drawn-by-another-installation"]
    assert first.endswith("lookalike 1.2.3")
    assert second.split()[:2] == [str(grey), "no-mark-found"]
    assert "no proof of a photograph" in last


def test_a_line_of_json_a_picture(
    drawn: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKALIKE_DEVICE", "cpu")
    monkeypatch.setenv("LOOKALIKE_INSTALLATION", "7")
    assert main(["detect", "--json", str(drawn)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["picture"], told["verdict"]) == (str(drawn), "drawn-by-this-model")
    (mark,) = told["layers"]["pixels"]["marks"]
    assert (mark["version"], mark["installation"]) == ("1.2.3", 7)


def test_no_more_is_read_than_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKALIKE_DEVICE", "cpu")
    monkeypatch.setenv("LOOKALIKE_MAX_BYTES", "1024")
    pipe = tmp_path / "pipe"  # which has no size
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as thread:
        thread.submit(pipe.write_bytes, bytes(1025))
        assert main(["detect", str(pipe)]) == 2
    assert "pipe: is larger than the 1024 bytes that LOOKALIKE_MAX_BYTES allows" in capsys.readouterr().err


def test_what_cannot_be_read_is_told(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKALIKE_DEVICE", "cpu")
    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    assert main(["detect", str(tmp_path / "none.jpg"), str(text), str(drawn)]) == 1
    said = capsys.readouterr()
    assert "none.jpg: No such file or directory" in said.err
    assert "text.jpg: The bytes are not a JPEG, PNG or WebP picture" in said.err
    assert str(drawn) in said.out
    assert main(["detect", str(text)]) == 2, "none could be read"


def test_a_key_that_will_not_do_is_refused_at_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = tmp_path / "short.key"
    short.write_text("abc123")
    monkeypatch.setenv("LOOKALIKE_WATERMARK_KEY_FILE", str(short))
    assert main(["serve"]) == 2
    said = capsys.readouterr().err
    assert "at least 16 characters" in said
    assert "abc123" not in said


def test_one_half_of_a_pair_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKALIKE_C2PA_KEY", str(tmp_path / "key.pem"))
    assert main(["serve"]) == 2
    assert "c2pa_certificates and c2pa_key go together" in capsys.readouterr().err


def test_without_the_extra_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"pip install 'lookalike\[c2pa\]'"):
        Settings(c2pa_certificates=tmp_path / "chain.pem", c2pa_key=tmp_path / "key.pem")


def lines(report: Report) -> dict[str, str]:
    return dict(report.sections["origin"])


def test_doctor_checks_the_certificate_and_says_when_it_runs_out(tmp_path: Path) -> None:
    chain, report = make_chain(tmp_path, days=10), Report()
    origin(report, Settings(c2pa_certificates=chain.certificates, c2pa_key=chain.key))
    assert lines(report)["content credentials"].startswith("signed as ")
    assert "in 8 days" in lines(report)["certificate runs out"]
    assert any("runs out in 8 days" in what for what, _ in report.notes)
    assert not report.wrong


def test_doctor_finds_a_pair_that_does_not_match(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    chain, other, report = make_chain(tmp_path), make_chain(tmp_path / "other"), Report()
    origin(report, Settings(c2pa_certificates=chain.certificates, c2pa_key=other.key))
    assert any("is not the key of the first certificate" in what for what, _ in report.wrong)


def test_doctor_says_what_is_switched_off() -> None:
    report = Report()
    origin(report, Settings(watermark=False))
    assert lines(report)["mark in the pixels"] == "OFF"
    assert any("mark in the pixels" in what for what, _ in report.notes)


@pytest.mark.parametrize(
    ("version", "read"), [("0.6.0", "0.6.0"), ("15.63.63", ""), ("15.63.62", "15.63.62"), ("16.0.0", ""), ("1.2", "")]
)
def test_versions_fit_into_16_bits(version: str, read: str) -> None:
    assert unpacked_version(packed_version(version)) == read
