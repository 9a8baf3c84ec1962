"""The pictures that show a model: the page's example faces, the sheet at the head of the README, what controls do, and
what the detail stage adds.

    python -m model_export showcase app/models --page app/page
    python -m model_export showcase app/models --photograph portrait.jpg --sheet docs/look-alikes.webp
    python -m model_export showcase app/models --controls docs/controls.webp
    python -m model_export showcase app/models --detail docs/detail.webp

The examples are drawn from identities that belong to nobody, so nobody's rights are in them. The same model draws the
same pictures again; new weights want new ones, and a test says so.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from app.core.faces import Bytes, Detector, Face, Floats, align
from app.core.generate import CONTROL_SIZE, IDENTITY_SIZE, Generator, Sizes, sample_controls, uniform_controls
from app.core.images import contact_sheet, read_photo, write_image
from app.core.origin import Origin
from app.core.provenance import Provenance
from app.runtime.manifest import Control, parse_manifest
from app.settings import Settings

EXAMPLES = 6
DRAWN = 48
"""Identities that examples are chosen from."""
SURE = 0.5
"""Share of them whose face the detector is surest of."""
TYPICAL = 0.65
"""Standard deviation of the identities, of the 1 that people have: a visitor's first picture should be drawn well."""
SHEET_ROWS, SHEET_COLUMNS = 3, 4
AROUND = 2.3
"""Side of what the sheet shows of the photograph, in sides of the face's box."""
GAP = 16
QUALITY = 82
EXAMPLE = "example-{}.webp"
PAIRS, PAIRS_IN_A_ROW = 24, 4
"""Of the sheet of the detail stage."""
MARGIN, LETTERS = 210, 20
"""Of the sheet of controls: pixels for the words at the left, and the height of letters."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `showcase` can be told."""
    parser.add_argument("models", type=Path, help="directory of the exported model")
    parser.add_argument("--page", type=Path, help="folder to write example-1.webp to example-6.webp into")
    parser.add_argument("--photograph", type=Path, help="photograph for the sheet, of somebody who agreed to it")
    parser.add_argument("--sheet", type=Path, help="where to write the sheet: the photograph, and look-alikes of it")
    parser.add_argument(
        "--controls", type=Path, help="where to write the sheet of what each control does to the examples"
    )
    parser.add_argument(
        "--detail", type=Path, help="where to write pairs of faces: plainly enlarged, and with the detail stage"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the look-alikes on the sheet")


def run(args: argparse.Namespace) -> int:
    """Draw what was asked for; returns the exit status."""
    if not (args.page or args.sheet or args.controls or args.detail):
        raise SystemExit(
            "showcase: say --page FOLDER, --controls FILE, --detail FILE, or --photograph FILE --sheet FILE"
        )
    if bool(args.sheet) != bool(args.photograph):
        raise SystemExit("showcase: --sheet and --photograph go together")
    manifest = parse_manifest(args.models)
    sizes = Sizes(manifest.frame_size, manifest.image_size, manifest.crop_size)
    stage = "detail" in manifest.files
    if args.detail and not stage:
        raise SystemExit(f"showcase: {args.models} has no detail stage; see `python -m model_export detail`")
    generator = Generator(args.models, "cpu", sizes=sizes, detail=stage)
    detector = Detector(args.models, "cpu")
    if args.page or args.controls:
        examples, identities = example_faces(generator, detector)
    if args.page:
        provenance = Provenance(manifest.name, manifest.version, "example")
        files = Origin(Settings()).files(examples, "webp", QUALITY, provenance)
        for number, file in enumerate(files, 1):
            (args.page / EXAMPLE.format(number)).write_bytes(file)
    if args.controls:
        provenance = Provenance(manifest.name, manifest.version, "controls")
        moved = both_ends(generator, identities)
        marked = np.stack(list(Origin(Settings()).marked(list(moved.reshape(-1, *moved.shape[2:])), provenance)))
        sheet = controls_sheet(marked.reshape(moved.shape), manifest.controls)
        args.controls.write_bytes(write_image(sheet, "webp", QUALITY, provenance))
    if args.detail:
        provenance = Provenance(manifest.name, manifest.version, "detail")
        sheet = contact_sheet(list(Origin(Settings()).marked(pairs(generator), provenance)), 2 * PAIRS_IN_A_ROW)
        args.detail.write_bytes(write_image(sheet, "webp", QUALITY, provenance))
    if args.sheet:
        low, high = manifest.thresholds.lookalike_band
        photograph = read_photo(args.photograph.read_bytes(), 64_000_000).image
        provenance = Provenance(manifest.name, manifest.version, "sheet")
        head, faces = head_and_look_alikes(generator, detector, photograph, sizes, (low, high), args.seed)
        # Not as a sheet of drawn faces: the photograph on it bears no mark.
        marked = contact_sheet(list(Origin(Settings()).marked(faces, provenance)), SHEET_COLUMNS)
        gap = np.full((len(head), GAP, 3), 255, np.uint8)
        sheet = np.concatenate([head, gap, marked], axis=1)
        args.sheet.write_bytes(write_image(sheet, "webp", QUALITY, provenance))
    return 0


def example_faces(generator: Generator, detector: Detector, seed: int = 0) -> tuple[list[Bytes], Floats]:
    """Faces [s, s, 3] of people who do not exist, as unlike each other as a few of them can be, and identities [n, 70].

    Args:
        generator: draws them, with all controls at zero.
        detector: of them all, those that it is surest of are chosen from: a visitor's first picture has to work.
        seed: of the identities, which are normal in every dimension.
    """
    identities = TYPICAL * np.random.default_rng(seed).standard_normal((DRAWN, IDENTITY_SIZE), np.float32)
    still = np.zeros((8, CONTROL_SIZE), np.float32)
    drawn = [generator.decode(identities[start : start + 8], still) for start in range(0, DRAWN, 8)]
    faces, embeddings = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    found = [detector(Image.fromarray(face)) for face in faces]
    scores = np.array([max((face.score for face in some), default=0.0) for some in found])
    sure = np.argsort(-scores, kind="stable")[: round(DRAWN * SURE)]
    chosen = sure[farthest(embeddings[sure], EXAMPLES)]
    return [faces[index] for index in chosen], identities[chosen]


def both_ends(generator: Generator, identities: Floats) -> Bytes:
    """Each control at -1 and at 1, the others at 0: pictures [controls, 2 n, s, s, 3] of identities [n, 70]."""
    each = np.repeat(identities, 2, 0)
    ends = np.tile([-1.0, 1.0], len(identities)).astype(np.float32)
    directions = np.eye(CONTROL_SIZE, dtype=np.float32)
    return np.stack([generator.decode(each, ends[:, None] * direction)[0] for direction in directions])


def pairs(generator: Generator, seed: int = 2) -> list[Bytes]:
    """Variants of people who do not exist, each plainly enlarged and then with the detail stage, [2s, 2s, 3]."""
    assert generator.detail
    random = np.random.default_rng(seed)
    identities = TYPICAL * random.standard_normal((PAIRS, IDENTITY_SIZE), np.float32)
    controls = uniform_controls(random, PAIRS)
    found: list[Bytes] = []
    for start in range(0, PAIRS, 8):
        some = slice(start, start + 8)
        small, _ = generator.decode(identities[some], controls[some])
        (large,) = generator.detail(small)
        side = large.shape[1]
        for before, after in zip(small, large, strict=True):
            found += [np.asarray(Image.fromarray(before).resize((side, side), Image.Resampling.BICUBIC)), after]
    return found


def controls_sheet(moved: Bytes, controls: Sequence[Control]) -> Bytes:
    """A row a control, with its name and ends at the left, of pictures [controls, n, s, s, 3]."""
    rows, columns, side = moved.shape[:3]
    sheet = Image.new("RGB", (MARGIN + columns * side, rows * side), "white")
    sheet.paste(Image.fromarray(contact_sheet(list(moved.reshape(-1, side, side, 3)), columns)), (MARGIN, 0))
    draw, letters = ImageDraw.Draw(sheet), ImageFont.load_default(LETTERS)
    for row, control in enumerate(controls):
        ends = f"\n{control.low},\n{control.high}" if control.low else ""
        words = control.name.replace("_", " ") + ends
        draw.text((8, row * side + side // 4), words, fill="black", font=letters)
    return np.asarray(sheet)


def farthest(embeddings: Floats, count: int) -> list[int]:
    """Indices of `count` unit vectors [n, d], each chosen to be least alike the ones before it (Gonzalez 1985)."""
    chosen = [0]
    while len(chosen) < count:
        nearest = (embeddings @ embeddings[chosen].T).max(axis=1)
        nearest[chosen] = np.inf
        chosen.append(int(nearest.argmin()))
    return chosen


def head_and_look_alikes(
    generator: Generator,
    detector: Detector,
    photograph: Image.Image,
    sizes: Sizes,
    band: tuple[float, float],
    seed: int,
) -> tuple[Bytes, list[Bytes]]:
    """The photograph's head at the height of three rows, and twelve look-alikes inside the band to lie beside it.

    Raises:
        SystemExit: there is no face on the photograph, or too few of its variants fall inside the band.
    """
    faces = detector(photograph)
    if not faces:
        raise SystemExit("showcase: no face was found on the photograph")
    face = faces[0]
    frame = align(photograph, face, sizes.frame)
    identity, reference = generator.encode(frame[None])
    wanted = SHEET_ROWS * SHEET_COLUMNS
    inside: list[Bytes] = []
    controls = sample_controls(seed, 8 * wanted, 1.0)
    for start in range(0, len(controls), 8):
        some = controls[start : start + 8]
        images, embeddings = generator.decode(np.repeat(identity, len(some), 0), some)
        alike = embeddings @ reference[0]
        inside += [image for image, value in zip(images, alike, strict=True) if band[0] <= value <= band[1]]
        if len(inside) >= wanted:
            break
    else:
        raise SystemExit("showcase: too few variants of this photograph fall inside the look-alike band")
    height = SHEET_ROWS * sizes.image
    head = _square(photograph, face).resize((height, height), Image.Resampling.LANCZOS)
    return np.asarray(head), inside[:wanted]


def _square(photograph: Image.Image, face: Face) -> Image.Image:
    """The head with room around it, as far as the photograph goes."""
    side = min(AROUND * face.width, *photograph.size)
    limit = np.array(photograph.size) - side
    left, top = np.clip(face.centre - side / 2, 0, limit)
    return photograph.crop((round(left), round(top), round(left + side), round(top + side)))
