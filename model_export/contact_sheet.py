"""Contact sheets: small pictures in rows, each with a caption, for human eyes."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from app.core.faces import Bytes

CAPTION_HEIGHT = 14


def save_contact_sheet(path: Path, faces: Sequence[Bytes], captions: Sequence[str], columns: int = 12) -> None:
    """Write pictures [h, w, 3] uint8, all of one size, as a PNG of `columns` columns; nothing is written for none."""
    if not len(faces):
        return
    height, width = faces[0].shape[:2]
    columns = min(columns, len(faces))
    rows = -(-len(faces) // columns)
    sheet = Image.new("RGB", (columns * width, rows * (height + CAPTION_HEIGHT)), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (face, caption) in enumerate(zip(faces, captions, strict=True)):
        left, top = index % columns * width, index // columns * (height + CAPTION_HEIGHT)
        sheet.paste(Image.fromarray(face), (left, top))
        draw.text((left + 2, top + height + 1), caption, fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Photographs hardly repeat themselves: a search for longer repeats takes five times as long, for a file as large.
    sheet.save(path, compress_type=zlib.Z_RLE)
