"""A photograph's embedding as a client may keep it, to have similarity measured against later.

Opaque: what is in it may change, and a client has no use for its parts. It is checked, not signed: whoever forges one
is told the similarity to something that he made up, which he could have computed himself.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

import numpy as np

from app.core.faces import EMBEDDING_SIZE, Floats
from app.errors import ReferenceInvalid
from app.runtime.manifest import Manifest

MAX_LENGTH = 2048
"""Characters that a reference may have; it has about a thousand."""

_VERSION = b"\x01"
_NETWORK = 6
"""Bytes of the recogniser's digest: similarities of another recogniser mean something else."""
_CHECK = 8
"""Bytes of the digest of everything before it."""
_HEAD = 2 + _NETWORK


@dataclass(frozen=True)
class Reference:
    """What is kept of a photograph.

    Attributes:
        embedding: [192], of unit length.
        grey: whether it had no colour.
    """

    embedding: Floats
    grey: bool

    def write(self, manifest: Manifest) -> str:
        """As text, for a client to keep."""
        values = np.asarray(self.embedding, "<f4").tobytes()
        content = _VERSION + bytes([self.grey]) + _network(manifest) + values
        return base64.urlsafe_b64encode(content + _check(content)).rstrip(b"=").decode()


def read_reference(text: str, manifest: Manifest) -> Reference:
    """Read what `Reference.write` wrote.

    Raises:
        ReferenceInvalid: it is none, is damaged, or was made with another recogniser.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars="-_", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    content, check = data[:-_CHECK], data[-_CHECK:]
    if len(content) != _HEAD + 4 * EMBEDDING_SIZE or content[:1] != _VERSION or check != _check(content):
        raise ReferenceInvalid("This is no reference, or not a whole one. Send it as it stood in the answer.")
    if content[2:_HEAD] != _network(manifest):
        raise ReferenceInvalid("This reference is of another recogniser. Send the photograph again for a new one.")
    embedding = np.frombuffer(content[_HEAD:], "<f4").astype(np.float32)
    if not abs(float(np.linalg.norm(embedding)) - 1) < 1e-3:  # so that NaN is refused as well
        raise ReferenceInvalid("This reference holds no embedding. Send it as it stood in the answer.")
    return Reference(embedding, bool(content[1]))


def _network(manifest: Manifest) -> bytes:
    return bytes.fromhex(manifest.files["recognizer"].sha256)[:_NETWORK]


def _check(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_CHECK, person=b"reference").digest()
