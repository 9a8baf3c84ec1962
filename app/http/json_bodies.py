"""Photographs within JSON: `{"image": "<base64>", "count": 4}`, as programs send that have no use for forms.

A photograph is megabytes of one string, and the parameters are a few hundred bytes. So the strings that can only be
photographs are taken out of the text first, and no more is parsed as JSON than any other body may hold.
"""

from __future__ import annotations

import binascii
import json
import re
from typing import Any

from app.http.problems import ProblemError, refuse

MAX_TEXT = 2**18
"""Bytes of JSON besides photographs: it is parsed in one go."""

_LEAST = 512
"""Bytes of a string that is put aside; a shorter one is read with the rest."""
_CHARACTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=:;,\\"
"""Of base64 and of data URLs, and of escapes: any character of a string may be written as one, as a line's end must."""
_ASIDE = re.compile(r"\x00[0-9]{1,6}")
"""What stands for a string that was put aside."""


def read_json(body: bytes, names: tuple[str, ...]) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The photographs by field name, and the other members.

    Args:
        body: the whole body, a JSON object.
        names: the members that are photographs, in base64 (the standard or the URL-safe alphabet) or as a data URL.

    Raises:
        ProblemError: 400 a photograph that is not base64, 413 more text than is taken, 422 no JSON object, or a member
            given twice.
    """
    if body.count(b'"') > MAX_TEXT:
        raise _too_much()
    pieces = body.split(b'"')  # strings, and what stands between them
    taken: list[bytes] = []
    for place, piece in enumerate(pieces):
        if len(piece) >= _LEAST and not piece.translate(None, _CHARACTERS):
            pieces[place] = b"\\u0000%d" % len(taken)
            taken.append(piece)
    text = b'"'.join(pieces)
    if len(text) > MAX_TEXT:
        raise _too_much()
    try:
        members = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        how = "A photograph belongs into it as a string in base64; its bytes alone are sent as image/jpeg, say."
        raise refuse(422, f"The body is not valid JSON. {how}") from None
    if not isinstance(members, dict):
        raise refuse(422, "The body must be a JSON object, with the photograph in base64 and the parameters.")
    photos = {}
    for name in names:
        value = members.pop(name, None)
        if value is not None:
            if not isinstance(value, str):
                raise refuse(400, f"'{name}' must be a string: the bytes of the photograph in base64.")
            place = int(value[1:]) if _ASIDE.fullmatch(value) else len(taken)
            written = _unescaped(taken[place]) if place < len(taken) else value
            photos[name] = _decoded(name, written.encode(errors="replace"))
    return photos, members


def _unescaped(piece: bytes) -> str:
    """What a string that was put aside says: many libraries escape slashes, some `+` and `=` as well (`\\u003d`)."""
    text = piece.decode("ascii")
    try:
        return str(json.loads(f'"{text}"')) if "\\" in text else text
    except ValueError:
        return text  # not whole, and so no base64 either


def _too_much() -> ProblemError:
    return refuse(413, f"At most {MAX_TEXT} bytes of JSON are accepted besides the photographs in base64.")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise refuse(422, f"{name[:64]!r} is given more than once.")
        members[name] = value
    return members


def _decoded(name: str, text: bytes) -> bytes:
    if text.startswith(b"data:"):
        text = text.partition(b",")[2]
    text = text.replace(b"-", b"+").replace(b"_", b"/").translate(None, b" \t\r\n").rstrip(b"=")
    try:
        return binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
    except binascii.Error:
        how = "Send the bytes of the photograph in base64, without anything around them."
        raise refuse(400, f"'{name}' is not base64. {how}") from None
