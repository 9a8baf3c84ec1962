"""Where the images of a data set lie and what they are labelled as, so that it loads as it is.

    person      images/LABEL/...jpg         torchvision's ImageFolder on images/, Hugging Face's imagefolder
    flat        images/...jpg               Hugging Face's imagefolder, by the labels of images/metadata.jsonl
    webdataset  shards/000000.tar, ...      webdataset, each image with a .json and its class as a number in .cls

A photograph's person is the folder that it lies in; one that lies in none is a person of its own.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["person", "flat", "webdataset"]
Labels = Literal["same-person", "look-alike-is-new-person"]

IMAGES, SHARDS = "images", "shards"
RUN, MANIFEST = "run.json", "manifest.jsonl"
"""What lies beside them in the folder of a run, whatever its layout."""
NAME_BYTES = 200
"""Longest name that is made of others; file systems take 255, and something is appended."""


@dataclass(frozen=True)
class Layout:
    """A way to lay out and label a data set.

    Attributes:
        kind: see above.
        labels: `same-person` labels a look-alike as the person of its photograph. Else each is a person of its own;
            with given controls, what one control makes of all photographs of a person is one new person.
        given: whether the controls are given rather than random.
    """

    kind: Kind = "person"
    labels: Labels = "same-person"
    given: bool = False

    def label(self, source: str, index: int) -> str:
        """Which person an image shows: a name that is a folder's, and no other person's.

        Args:
            source: name of the photograph.
            index: of the image among those of its photograph.
        """
        return _joined(self._label(source.split("/"), index))

    def stem(self, source: str, index: int) -> str:
        """The name of an image without suffix: no other has it within its folder, or within all shards."""
        parts = source.split("/")
        if self.kind == "person":
            label = self._label(parts, index)
            return f"{index:04d}" if label[: len(parts)] == parts else f"{_joined(parts[-1:])}-{index:04d}"
        name = f"{_joined(parts)}-{index:04d}"
        # What comes before the first dot is what webdataset knows a sample by.
        return name.replace(".", "%2E") if self.kind == "webdataset" else name

    def file(self, source: str, index: int, suffix: str) -> str:
        """Where an image lies, from OUT on; within shards the name alone."""
        name = f"{self.stem(source, index)}.{suffix}"
        if self.kind == "person":
            return f"{IMAGES}/{self.label(source, index)}/{name}"
        return f"{IMAGES}/{name}" if self.kind == "flat" else name

    @property
    def unique(self) -> bool:
        """Whether no two images have a label in common."""
        return self.labels == "look-alike-is-new-person" and not self.given

    def _label(self, parts: list[str], index: int) -> list[str]:
        person = parts[:-1] or parts
        if self.labels == "same-person":
            return person
        return [*(person if self.given else parts), f"{index:04d}"]


def printable(name: str) -> str:
    """A name as text that any program reads: bytes that are no text stand as %XX."""
    return re.sub("[\udc80-\udcff]", lambda match: f"%{ord(match[0]) - 0xDC00:02X}", name)


def _joined(parts: Iterable[str]) -> str:
    """Names as one, by which they can be told apart: `train/alice` is `train__alice`."""
    name = "__".join(map(_escaped, parts))
    if len(os.fsencode(name)) <= NAME_BYTES:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return os.fsencode(name)[: NAME_BYTES - 17].decode("utf-8", "ignore") + "-" + digest


def _escaped(part: str) -> str:
    """A name without what separates names, `__`, and without what is not text or no program should print."""
    part = printable(part.replace("%", "%25")).replace("__", "%5F%5F")
    part = re.sub("^_|_$", "%5F", part)
    return re.sub("[\0-\x1f\x7f]", lambda match: f"%{ord(match[0]):02X}", part)
