"""Where a picture comes from: every layer is laid here into what leaves, and sought here in what comes.

Three layers: metadata (XMP), content credentials (a C2PA manifest, signed, where the operator has a certificate), and a
mark in the pixels. `Origin.files` and `Origin.sheet` are the only way from drawn pixels to an image file.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from app.core.credentials import Credentials, Signer, Verifier, read_pair
from app.core.faces import Bytes, Detector
from app.core.images import MOST_PIXELS, READABLE, Format, contact_sheet, read_photo, sound, write_image
from app.core.provenance import Metadata, Provenance, read_metadata
from app.core.watermark import FALSE_ALARMS, OPEN_KEY, THRESHOLD, Message, Watermark
from app.core.watermark_search import Found, search
from app.errors import CredentialsInvalid
from app.settings import Settings

Verdict = Literal["drawn-by-this-model", "drawn-by-another-installation", "no-mark-found"]

LEAST_KEY = 16
"""Characters that a secret key has at least."""
UNKNOWN_VERSION = 0xFFFF
"""For a version that is not three small numbers."""
NO_PROOF = (
    "No mark was found. That is no proof of a photograph: marks can be removed, and other models leave others or none."
)


@dataclass(frozen=True)
class Mark:
    """A mark in the pixels.

    Attributes:
        found: where and how surely.
        version: of the model that drew the face; empty where it is not three small numbers.
        installation: the number of the service that drew it.
        ours: whether key and installation are this service's.
    """

    found: Found
    version: str
    installation: int
    ours: bool

    def told(self) -> dict[str, Any]:
        """It as data."""
        return {
            "score": round(self.found.score, 2),
            "version": self.version,
            "installation": self.installation,
            "ours": self.ours,
            "mirrored": self.found.mirrored,
            "frame": [(round(float(x), 2), round(float(y), 2)) for x, y in self.found.frame],
        }


@dataclass(frozen=True)
class Examination:
    """What a picture says of its origin, layer by layer.

    Attributes:
        verdict, statement: all of it in a word, and in a sentence.
        width, height: of the picture in pixels.
        faces: how many were found in it.
        metadata, credentials: what those layers say.
        watermarks: what was read from the pixels, the surest first.
        score: the best correlation of pixels and mark that was met, in standard deviations.
        threshold: the score of a mark.
        false_alarms: at most the rate of unmarked pictures in which one is seen.
    """

    verdict: Verdict
    statement: str
    width: int
    height: int
    faces: int
    metadata: Metadata
    credentials: Credentials
    watermarks: list[Mark]
    score: float
    threshold: float = THRESHOLD
    false_alarms: float = FALSE_ALARMS

    def told(self) -> dict[str, Any]:
        """All of it as data, the same over HTTP and on the command line."""
        metadata, credentials = self.metadata, self.credentials
        return {
            "verdict": self.verdict,
            "statement": self.statement,
            "width": self.width,
            "height": self.height,
            "faces": self.faces,
            "layers": {
                "metadata": {
                    "present": metadata.present,
                    "digital_source_type": metadata.source_type,
                    "system": metadata.system,
                    "version": metadata.version,
                    "software": metadata.software,
                    "document": metadata.document,
                },
                "credentials": {
                    "present": credentials.state not in ("absent", "not-checked"),
                    "valid": credentials.state in ("trusted", "valid"),
                    "state": credentials.state,
                    "why": list(credentials.why),
                    "generator": credentials.generator,
                    "version": credentials.version,
                    "digital_source_type": credentials.source_type,
                    "when": credentials.when,
                    "signer": credentials.signer,
                },
                "pixels": {
                    "present": bool(self.watermarks),
                    "score": round(self.score, 2),
                    "threshold": round(self.threshold, 2),
                    "false_alarm_rate": self.false_alarms,
                    "marks": [mark.told() for mark in self.watermarks],
                },
            },
        }


class Origin:
    """The layers as the settings have them.

    Raises:
        CredentialsInvalid: a key or a certificate cannot be used.

    Attributes:
        asked: see `asked_of`.
        signer: of content credentials, where they are on.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        key = _key(settings)
        self.asked = asked_of(settings)
        self._watermark = Watermark(key)
        self._others = [] if key == OPEN_KEY else [Watermark()]
        self._roots = _read(settings.c2pa_trust) if settings.c2pa_trust else b""
        self.signer: Signer | None = None
        if settings.c2pa_certificates and settings.c2pa_key:
            self.signer = Signer(read_pair(settings.c2pa_certificates, settings.c2pa_key))
            self._roots += b"\n" + self.signer.pair.chain

    @cached_property
    def _verifier(self) -> Verifier:
        return Verifier(self._roots)

    def files(self, faces: Sequence[Bytes], form: Format, quality: int, provenance: Provenance) -> list[bytes]:
        """Drawn faces [size, size, 3] of one size as image files, each with every layer that is on."""
        return [self._file(pixels, form, quality, provenance) for pixels in self.marked(faces, provenance)]

    def sheet(
        self, faces: Sequence[Bytes], columns: int | None, form: Format, quality: int, provenance: Provenance
    ) -> bytes:
        """Drawn faces side by side as one image file; each has its own mark, so that it can be cut out.

        Where so many columns are wider than the format's pictures can be, there are fewer.
        """
        if columns is not None:
            columns = min(columns, MOST_PIXELS[form] // faces[0].shape[1])
        return self._file(contact_sheet(list(self.marked(faces, provenance)), columns), form, quality, provenance)

    def marked(self, faces: Sequence[Bytes], provenance: Provenance) -> Sequence[Bytes]:
        """Drawn faces with the mark in their pixels, where it is on; for what is neither a file each nor a sheet."""
        if not self._settings.watermark or not len(faces):
            return faces
        message = Message(packed_version(provenance.version), self._settings.installation)
        return list(self._watermark.lay(np.stack(faces), message))

    def examine(self, data: bytes, detector: Detector, model: tuple[str, str]) -> Examination:
        """Seek every layer in a picture.

        Args:
            data: JPEG, PNG or WebP.
            detector: finds the faces in whose frames the mark is sought.
            model: name and version of the model in force.

        Raises:
            NotAnImage, TooManyPixels: there is nothing to look at.
        """
        # In full: at a fraction of its size a small face in a large picture would lose its mark.
        photo = read_photo(data, self._settings.max_pixels, reduced=False)
        with Image.open(io.BytesIO(sound(data)), formats=READABLE) as image:
            metadata, media_type = read_metadata(image), Image.MIME[str(image.format)]
        faces = detector(photo.image, thorough=True)
        marks, best = [], 0.0
        for watermark in (self._watermark, *self._others):
            outcome = search(photo.image, faces, watermark)
            best = max(best, outcome.best)
            marks += [self._mark(found, watermark) for found in outcome.found]
        marks.sort(key=lambda mark: -mark.found.score)
        credentials = self._verifier(data, media_type)
        verdict, statement = self._judge(marks, credentials, metadata, model)
        return Examination(
            verdict, statement, photo.width, photo.height, len(faces), metadata, credentials, marks, best
        )

    def _file(self, pixels: Bytes, form: Format, quality: int, provenance: Provenance) -> bytes:
        said = provenance if self._settings.metadata else None
        data = write_image(pixels, form, quality, said, self._settings.mark)
        return self.signer(data, f"image/{form}", provenance) if self.signer else data

    def _mark(self, found: Found, watermark: Watermark) -> Mark:
        installation = found.message.installation
        ours = watermark is self._watermark and installation == self._settings.installation
        return Mark(found, unpacked_version(found.message.version), installation, ours)

    def _judge(
        self, marks: Sequence[Mark], credentials: Credentials, metadata: Metadata, model: tuple[str, str]
    ) -> tuple[Verdict, str]:
        """The verdict by the layer that is hardest to forge or to lose, and why."""
        name, version = model
        if marks:
            mark = next((mark for mark in marks if mark.ours), marks[0])
            drawn = f"version {mark.version} of the model" if mark.version else "a version without a number"
            if mark.ours:
                now = "" if mark.version == version else f"; version {version} is in force now"
                return "drawn-by-this-model", f"The mark in the pixels says that {drawn} drew it here{now}."
            return (
                "drawn-by-another-installation",
                f"The mark in the pixels says that {drawn} drew it, at the installation numbered {mark.installation}.",
            )
        if credentials.state in ("trusted", "valid") and credentials.generator == name:
            signer = f"signed by {credentials.signer or 'somebody without a name'}"
            if self.signer and credentials.serial == self.signer.pair.serial:
                return "drawn-by-this-model", f"Its content credentials say so, {signer}; its pixels have no mark left."
            trust = "whom this service trusts" if credentials.state == "trusted" else "whom this service does not know"
            return "drawn-by-another-installation", f"Its content credentials say so, {signer}, {trust}."
        if metadata.system == name:
            return (
                "drawn-by-this-model",
                "Only its metadata say so, which anybody can write: its pixels have no mark, or none that is left.",
            )
        if metadata.present or credentials.source_type.rpartition("/")[2] == "trainedAlgorithmicMedia":
            return "no-mark-found", "No mark of this model was found, but the picture says that another system drew it."
        return "no-mark-found", NO_PROOF


def asked_of(settings: Settings) -> dict[str, object]:
    """What the bytes of a picture follow from, besides its pixels and its answer's id; the mark's key as a digest.

    Raises:
        CredentialsInvalid: there is no such key.
    """
    return {
        "metadata": settings.metadata,
        "watermark": hashlib.sha256(_key(settings).encode()).hexdigest() if settings.watermark else "",
        "installation": settings.installation,
    }


def packed_version(version: str) -> int:
    """A version of three numbers, at most 15.63.63, in 16 bits; `UNKNOWN_VERSION` for any other."""
    if not re.fullmatch(r"\d{1,2}(\.\d{1,2}){2}", version):
        return UNKNOWN_VERSION
    major, minor, patch = map(int, version.split("."))
    fits = major < 16 and minor < 64 and patch < 64
    return major << 12 | minor << 6 | patch if fits else UNKNOWN_VERSION


def unpacked_version(packed: int) -> str:
    """The version that was packed; empty for `UNKNOWN_VERSION`."""
    return "" if packed == UNKNOWN_VERSION else f"{packed >> 12}.{packed >> 6 & 63}.{packed & 63}"


def _key(settings: Settings) -> str:
    """The key of the mark: the open build's, or the one in the operator's file, without the line's end.

    Raises:
        CredentialsInvalid: there is none, or one that is too short to be a secret.
    """
    path = settings.watermark_key_file
    if path is None:
        return OPEN_KEY
    try:
        key = _read(path).decode().strip()
    except UnicodeDecodeError:
        raise CredentialsInvalid(f"{path}: is not text") from None
    if len(key) < LEAST_KEY:
        raise CredentialsInvalid(f"{path}: a secret key has at least {LEAST_KEY} characters")
    return key


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CredentialsInvalid(f"{path}: cannot be read ({error.strerror})") from None
