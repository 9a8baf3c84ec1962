"""The photographs of an audit: read, cut, encoded, and shown to the recogniser, each once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np

from app.audit.cache import Cache, mark
from app.audit.crops import cropped
from app.audit.recognisers import Recogniser, embeddings
from app.batch.archives import Photograph
from app.core.colour import desaturated, is_grey
from app.core.faces import Bytes, Detector, Face, Floats, align, similarity
from app.core.generate import CONTROL_SIZE, IDENTITY_SIZE, Generator, Sizes, uniform_controls
from app.core.located import Source
from app.core.models import decoder_role
from app.errors import FaceTooSmall, NoFace, PhotographUnusable, RecogniserFailed
from app.runtime.manifest import NETWORKS, Manifest, read_manifest
from app.settings import Settings

BATCH = 16
"""Photographs that are worked on at a time, and kept if the run is stopped after them."""
KEPT = 512
"""Pictures that are held in memory; of others the photograph is read again."""
FARTHEST = 2.0
"""Where a path through a random control ends: at the corner of the cube beyond it."""

Told = Callable[[int], None]


@dataclass(frozen=True)
class Item:
    """A photograph, or a look-alike made of one.

    Attributes:
        name: of the photograph, a path within its source.
        person: whom it shows or resembles, a number from 0.
        digest: SHA-256 of the photograph.
        key: what it shows, to the byte: the photograph or the look-alike, and what that was cut out or drawn by.
        identity: latent of the photograph [70].
        own: embedding by the service's recogniser [192].
        grey: whether the photograph has no colour, and so its look-alikes have none.
        control: of a look-alike [10]; None of a photograph.
        reach: of a look-alike, its place on a path from 0, the redrawing, to `FARTHEST`.
        similarity: of a look-alike to its photograph, as the generator's recogniser has it.
    """

    name: str
    person: int
    digest: str
    key: str
    identity: Floats
    own: Floats
    grey: bool = False
    control: Floats | None = None
    reach: float = 0.0
    similarity: float = 1.0


@dataclass(frozen=True)
class Skipped:
    """A photograph that could not be used, and why."""

    name: str
    reason: str


class Studio:
    """The service's networks, one photograph at a time.

    Args:
        settings: where the models are, and how photographs are read.

    Raises:
        ModelsInvalid, ProviderUnavailable: the models cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.manifest: Manifest = read_manifest(settings.models)
        self.sizes = Sizes(self.manifest.frame_size, self.manifest.image_size, self.manifest.crop_size)
        self.detector = Detector(settings.models, settings.device, settings.threads)
        self.decoder = decoder_role(settings, self.manifest)
        file, threads = NETWORKS[self.decoder], settings.threads
        self.generator = Generator(settings.models, settings.device, threads, file, sizes=self.sizes)

    def cut(self, data: bytes) -> Bytes:
        """The largest face of a photograph in the face frame [f, f, 3], as the service cuts it.

        Raises:
            NotAnImage, TooManyPixels, NoFace, FaceTooSmall: it will not do.
        """
        source = Source(data, self.settings.max_pixels)
        photo = source.photo
        faces: list[Face] = self.detector(photo.image)
        if not faces:
            raise NoFace("No face was found.")
        if faces[0].eye_distance * photo.scale < self.settings.min_eye_distance:
            raise FaceTooSmall(
                f"The eyes are {faces[0].eye_distance * photo.scale:.0f} pixels apart, which is too few."
            )
        image, face = photo.image, faces[0]
        if source.too_coarse(face.eye_distance, self.sizes.frame):
            image, face = source.whole().image, face.scaled(photo.scale)
        return align(image, face, self.sizes.frame)

    def draw(self, identities: Floats, controls: Floats, grey: bool = False) -> tuple[Bytes, Floats]:
        """Identities [n, 70] under controls [n, 10] -> pictures [n, s, s, 3], their embeddings [n, 192]."""
        images, own = self.generator.decode(identities, controls)
        if grey:
            images = desaturated(images)
            own = self.generator.judge(images)
        return images, own


@dataclass(frozen=True)
class Marks:
    """How what is known of pictures was made, for the keys of the cache: another model must not find it.

    Attributes:
        cut: a face that was cut out of its photograph.
        face: what the service makes of a photograph: whether its face can be used, identity and embedding.
        picture: a look-alike.
        drawn: the embedding of a look-alike by the service's recogniser.
    """

    cut: str
    face: str
    picture: str
    drawn: str


def marks(studio: Studio) -> Marks:
    """The marks of what a studio makes, each of no more than it depends on: photographs outlast another decoder."""
    files, sizes = studio.manifest.files, studio.sizes
    cut = [files["detector_near"].sha256, files["detector_far"].sha256, sizes.frame]
    encoded = [*cut, files["encoder"].sha256]
    drawn = [*encoded, files[studio.decoder].sha256, sizes.image]
    own = [files["recognizer"].sha256, sizes.crop]
    least = studio.settings.min_eye_distance
    return Marks(mark(*cut), mark(*encoded, *own, least), mark(*drawn), mark(*drawn, *own))


class Collection:
    """Photographs, look-alikes, and what the recogniser makes of them.

    Args:
        photographs: of one source, readable as long as this is used.
        studio: cuts and draws.
        recogniser: that is audited.
        cache: what is known already.
    """

    def __init__(self, photographs: Sequence[Photograph], studio: Studio, recogniser: Recogniser, cache: Cache) -> None:
        self._all = sorted(photographs, key=lambda photograph: photograph.name)
        # Of two of one name the second is refused, and must not take the place of the first.
        self._photographs = {photograph.name: photograph for photograph in photographs if not photograph.refusal}
        self._studio, self._recogniser, self._cache = studio, recogniser, cache
        self._frames: OrderedDict[str, Bytes] = OrderedDict()
        self._marks = marks(studio)
        self.people: list[str] = []
        self.skipped: list[Skipped] = []

    def gather(self, told: Told) -> list[Item]:
        """All photographs that can be used, in the order of their names; a person each where one lies in no folder."""
        items: list[Item] = []
        seen: set[tuple[int, str]] = set()
        for start in range(0, len(self._all), BATCH):
            part = self._all[start : start + BATCH]
            read = [one for one in map(self._read, part) if one]
            encoded = self._encoded(read)
            if self._recogniser.embed:
                self._recognised(encoded)  # while their faces are at hand
            for item in encoded:
                if (item.person, item.key) in seen:
                    self.skipped.append(Skipped(item.name, "The same file is there twice."))
                else:
                    seen.add((item.person, item.key))
                    items.append(item)
            told(len(part))
        return items

    def _read(self, photograph: Photograph) -> tuple[str, str, Floats | None] | None:
        """A photograph's name, its digest, and what is known of it, its face cut out where that is needed."""
        name = photograph.name
        try:
            data = photograph.read(self._studio.settings.max_bytes)
            digest = hashlib.sha256(data).hexdigest()
            known = self._cache.get(self._face_of(digest))
            if known is None:
                self._keep(self._cut_of(digest), self._studio.cut(data))
            elif not len(known):
                self.skipped.append(Skipped(name, "No face that can be used was found in it before."))
                return None
        except PhotographUnusable as error:
            if isinstance(error, NoFace | FaceTooSmall):
                self._cache.put([self._face_of(digest)], [None])
            self.skipped.append(Skipped(name, str(error)))
            return None
        return name, digest, known

    def _encoded(self, read: list[tuple[str, str, Floats | None]]) -> list[Item]:
        new = [digest for _, digest, known in read if known is None]
        found = {digest: known for _, digest, known in read if known is not None}
        if new:
            frames = [self._frames[self._cut_of(digest)] for digest in new]
            identities, own = self._studio.generator.encode(np.stack(frames))
            grey = [[is_grey(frame)] for frame in frames]
            vectors = list(np.concatenate([identities, own, np.array(grey, np.float32)], axis=1))
            self._cache.put([self._face_of(digest) for digest in new], vectors)
            found |= dict(zip(new, vectors, strict=True))
        return [self._item(name, digest, found[digest]) for name, digest, _ in read]

    def _item(self, name: str, digest: str, row: Floats) -> Item:
        identity, own, grey = row[:IDENTITY_SIZE], row[IDENTITY_SIZE:-1], bool(row[-1])
        return Item(name, self._person(name), digest, self._cut_of(digest), identity, own, grey)

    def _cut_of(self, digest: str) -> str:
        return f"{self._marks.cut} {digest}"

    def _face_of(self, digest: str) -> str:
        return f"face {self._marks.face} {digest}"

    def _person(self, name: str) -> int:
        path = PurePosixPath(name)
        person = path.parts[0] if len(path.parts) > 1 else path.stem
        if person not in self.people:
            self.people.append(person)
        return self.people.index(person)

    def look_alikes(self, sources: Sequence[Item], each: int, seed: int, told: Told) -> list[Item]:
        """Look-alikes of photographs, `each` of them, spread over the whole range of similarity that can be drawn."""
        made = []
        for source in sources:
            made += self._drawn(source, each, seed)
            told(1)
        return made

    def _drawn(self, source: Item, each: int, seed: int) -> list[Item]:
        random = np.random.Generator(np.random.PCG64([seed, int(source.digest[:8], 16)]))
        ends = uniform_controls(random, each)
        reaches = np.linspace(FARTHEST / each, FARTHEST, each)
        controls = np.stack([on_path(end, float(reach)) for end, reach in zip(ends, reaches, strict=True)])
        made_of = [f"{source.digest} {control.tobytes().hex()}" for control in controls]
        keys = [f"{self._marks.picture} {one}" for one in made_of]
        drawn = [f"drawn {self._marks.drawn} {one}" for one in made_of]
        known = [self._cache.get(key) for key in drawn]
        shown = [self._cache.get(self._embedding_of(key)) for key in keys] if self._recogniser.embed else []
        if any(one is None for one in (*known, *shown)):  # together, which is faster than one by one
            images, own = self._studio.draw(np.repeat(source.identity[None], each, 0), controls, source.grey)
            for key, image in zip(keys, images, strict=True):
                self._keep(key, image)
            self._cache.put(drawn, list(own))
            known = list(own)
        alike = similarity(np.stack([one for one in known if one is not None]), source.own)
        made = [
            replace(source, key=key, own=one, control=control, reach=float(reach), similarity=near)
            for key, one, control, reach, near in zip(keys, known, controls, reaches, alike, strict=True)
            if one is not None
        ]
        if self._recogniser.embed:
            self._recognised(made)
        return made

    def embed(self, items: Sequence[Item], told: Told) -> list[Floats | None]:
        """The recogniser's vectors of photographs and look-alikes; None where it found no face.

        Raises:
            RecogniserFailed: it failed; the message names the file.
        """
        vectors: list[Floats | None] = []
        for part in batches(items):
            vectors += self._recognised(part)
            told(len(part))
        widths = [0 if one is None else len(one) for one in vectors]
        for item, width in zip(items, widths, strict=True):
            if width not in (0, max(widths)):
                raise RecogniserFailed(f"{told_name(item)}: has an embedding of [{width}], another of [{max(widths)}]")
        return vectors

    def _recognised(self, part: Sequence[Item]) -> list[Floats | None]:
        keys = [self._embedding_of(item.key) for item in part]
        known = [self._cache.get(key) for key in keys]
        new = [row for row, one in enumerate(known) if one is None]
        if new:
            pictures = [self.picture(part[row]) for row in new]
            found = embeddings(self._recogniser, pictures, [told_name(part[row]) for row in new])
            self._cache.put([keys[row] for row in new], found)
            for row, vector in zip(new, found, strict=True):
                known[row] = np.zeros(0, np.float32) if vector is None else vector
        return [one if one is not None and len(one) else None for one in known]

    def _embedding_of(self, key: str) -> str:
        return f"embedding {self._recogniser.key} {self._recogniser.crop} {key}"

    def picture(self, item: Item) -> Bytes:
        """What the recogniser is shown of an item."""
        return cropped(self.frame(item), self._recogniser.crop)

    def frame(self, item: Item) -> Bytes:
        """An item in the face frame [f, f, 3]; read, or drawn, again where it is not at hand."""
        if item.key in self._frames:
            self._frames.move_to_end(item.key)
            return self._frames[item.key]
        if item.control is None:
            data = self._photographs[item.name].read(self._studio.settings.max_bytes)
            return self._keep(item.key, self._studio.cut(data))
        images, _ = self._studio.draw(item.identity[None], item.control[None], item.grey)
        return self._keep(item.key, images[0])

    def _keep(self, key: str, frame: Bytes) -> Bytes:
        self._frames[key] = frame
        while len(self._frames) > KEPT:
            self._frames.popitem(last=False)
        return frame


def on_path(end: Floats, reach: float) -> Floats:
    """A control [10] on the way from 0 through a random one (1) to the corner of the cube beyond it (2)."""
    if reach <= 1:
        return np.asarray(end * np.float32(reach), np.float32)
    corner = np.copysign(np.ones(CONTROL_SIZE, np.float32), end)
    return np.asarray(end + (corner - end) * np.float32(reach - 1), np.float32)


def told_name(item: Item) -> str:
    """An item as an error names it."""
    return item.name if item.control is None else f"a look-alike of {item.name}"


def batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """A few at a time."""
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]
