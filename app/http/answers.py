"""The forms in which variants are answered: JSON, ZIP, NDJSON, and one image."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from app.core.generate import floats
from app.core.images import Format
from app.core.models import Engine
from app.core.subject import Subject
from app.core.variants import Variant, Variants
from app.errors import BandEmpty
from app.http import problems, schemas
from app.http.connection import while_connected
from app.http.negotiation import JSON, NDJSON, ZIP

POINTS = tuple(schemas.Landmarks.model_fields)

log = logging.getLogger(__name__)

Summary = Callable[[Variants, list[schemas.Variant]], BaseModel]


async def answer_variants(
    request: Request,
    opened: AbstractAsyncContextManager[Variants],
    form: str,
    image: Format,
    summary: Summary,
    columns: int | None = None,
) -> Response:
    """Variants in the form that was negotiated.

    Args:
        request: the request, its body read.
        opened: the service's answer.
        form: the media type of the answer.
        image: the file format of one image.
        summary: makes the JSON answer of variants.
        columns: of a contact sheet; None makes it about square.
    """
    media_type = f"image/{image}"
    if form == NDJSON:
        return await _stream(request, opened, media_type)
    return await while_connected(request, _whole(request, opened, form, media_type, summary, columns))


async def _whole(
    request: Request,
    opened: AbstractAsyncContextManager[Variants],
    form: str,
    media_type: str,
    summary: Summary,
    columns: int | None,
) -> Response:
    async with opened as variants:
        request.state.answer = variants.id
        if form.startswith("image/"):
            made, data = await variants.sheet(columns)
            if data is None:
                raise BandEmpty("Widen the band, or ask for JSON to see how the search went.")
            return Response(data, media_type=form, headers=_headers(variants, made))
        files = await variants.all_files()
        headers = _headers(variants, [variant for variant, _ in files])
        if form == ZIP:
            return Response(
                await variants.in_thread(lambda: _zip(variants, files, media_type, summary)),
                media_type=ZIP,
                headers=headers | {"Content-Disposition": f'attachment; filename="lookalike-{variants.id}.zip"'},
            )
        answer = await variants.in_thread(
            lambda: (
                summary(variants, [shown(variant, data, media_type) for variant, data in files])
                .model_dump_json()
                .encode()
            )
        )
        return Response(answer, media_type=JSON, headers=headers)


async def _stream(request: Request, opened: AbstractAsyncContextManager[Variants], media_type: str) -> Response:
    """A line a variant. What fails before the first line is a problem with its status, later it is a last line."""
    stack = AsyncExitStack()
    variants = await while_connected(request, stack.enter_async_context(opened))
    request.state.answer = variants.id
    made: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def make() -> None:
        # At its own pace: a client that reads slowly must not keep its place among those that are waited for.
        try:
            async with stack:
                async for batch in variants.files():
                    for variant, data in batch:
                        made.put_nowait(shown(variant, data, media_type).model_dump_json().encode() + b"\n")
        except Exception as error:
            # The status is sent; a line is the only way left to tell.
            kind, body, _ = problems.describe(error, request.state.request_id)
            if kind is problems.INTERNAL:
                log.exception("request failed", extra={"request_id": request.state.request_id})
            request.state.problem = kind.slug
            made.put_nowait(b'{"problem":' + body + b"}\n")
        made.put_nowait(None)

    async def lines() -> AsyncIterator[bytes]:
        task = asyncio.create_task(make())
        try:
            while (line := await made.get()) is not None:
                yield line
        finally:
            task.cancel()

    return StreamingResponse(lines(), media_type=NDJSON, headers=_headers(variants, []))


def shown(variant: Variant, data: bytes, media_type: str) -> schemas.Variant:
    """A variant as JSON shows it."""
    return schemas.Variant(
        index=variant.index,
        control=variant.control,
        similarity=variant.similarity,
        in_band=variant.in_band,
        media_type=media_type,
        width=variant.pixels.shape[1],
        height=variant.pixels.shape[0],
        # Standard base64; pydantic's own would be the URL-safe alphabet, which many clients misread.
        image=base64.b64encode(data).decode(),
    )


def model_name(engine: Engine) -> schemas.ModelName:
    """The model as every answer names it."""
    return schemas.ModelName(name=engine.manifest.name, version=engine.manifest.version)


def found(subject: Subject) -> dict[str, Any]:
    """A face's place and what was measured of it, as the schemas have it."""
    face, measured = subject.face, subject.quality
    assert measured is not None  # noqa: S101 - every face that leaves `find_subjects` was judged
    points = [(round(float(x), 2), round(float(y), 2)) for x, y in face.points]
    return {
        "box": tuple(round(value, 2) for value in face.box),
        "landmarks": schemas.Landmarks(**dict(zip(POINTS, points, strict=True))),
        "detection_score": round(face.score, 4),
        "rotation": subject.rotation,
        "face_quality": schemas.Quality(
            head_pose_yaw=round(measured.pose.yaw, 1),
            head_pose_roll=round(measured.pose.roll, 1),
            inter_eye_distance=round(measured.pose.eye_distance, 1),
            sharpness=round(measured.sharpness, 3),
            face_likeness=None if measured.likeness is None else round(measured.likeness, 2),
            fidelity=measured.fidelity,
            doubts=[schemas.Doubt(component=doubt.component, detail=doubt.detail) for doubt in measured.doubts],
        ),
    }


def source(subject: Subject, engine: Engine) -> schemas.Source:
    """The face that variants were made of."""
    return schemas.Source(
        **found(subject),
        identity=floats(subject.identity),
        reference=subject.reference.write(engine.manifest),
        grey=subject.grey,
    )


def search(variants: Variants) -> schemas.Search | None:
    """How the search went, once it is over."""
    if variants.search is None:
        return None
    low, high = variants.band
    return schemas.Search(
        similarity_min=low,
        similarity_max=high,
        wanted=variants.count,
        found=variants.search.found,
        tries=variants.search.tries,
    )


def _headers(variants: Variants, made: list[Variant]) -> dict[str, str]:
    """What the forms without room for it say in headers."""
    headers = {
        "X-Lookalike-Id": variants.id,
        "X-Lookalike-Model": f"{variants.engine.manifest.name}/{variants.engine.manifest.version}",
        "Vary": "Accept",
    }
    if variants.seed is not None:
        headers["X-Lookalike-Seed"] = str(variants.seed)
    if variants.source and variants.source.quality:
        headers["X-Lookalike-Rotation"] = str(variants.source.rotation)
        if doubts := variants.source.quality.doubts:
            headers["X-Lookalike-Doubts"] = ",".join(doubt.component for doubt in doubts)
    if made:
        headers["X-Lookalike-Similarity"] = ",".join(f"{variant.similarity:.4f}" for variant in made)
    return headers


def _zip(variants: Variants, files: list[tuple[Variant, bytes]], media_type: str, summary: Summary) -> bytes:
    """The images, and `manifest.json`: the JSON answer with `file` in place of `image`. Equal answers, equal bytes."""
    suffix = {"image/jpeg": "jpg", "image/webp": "webp", "image/png": "png"}[media_type]
    manifest = summary(variants, [shown(variant, b"", media_type) for variant, _ in files]).model_dump(mode="json")
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w") as archive:
        for entry, (variant, data) in zip(manifest["variants"], files, strict=True):
            del entry["image"]
            entry["file"] = f"{variant.index:04d}.{suffix}"
            archive.writestr(zipfile.ZipInfo(entry["file"]), data)
        archive.writestr(zipfile.ZipInfo("manifest.json"), json.dumps(manifest, indent=1))
    return output.getvalue()
