"""`/v1/jobs`: many photographs at once, to come back for later."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import contextmanager_in_threadpool
from fastapi.responses import StreamingResponse

from app.batch import jobs as batch
from app.batch import webhooks
from app.batch.sent import Sent, unpack
from app.core.controls import numbered
from app.core.parameters import VariantsParameters
from app.core.sizes import sized
from app.errors import JobTooLarge
from app.http import schemas
from app.http.access import caller
from app.http.archived import TAR, packed
from app.http.bodies import FORM, Upload, documented_job, once, parse
from app.http.dependencies import Jobs, Service, Worker
from app.http.documentation import BINARY, errors
from app.http.examples import REQUEST_ID
from app.http.negotiation import JSON, ZIP, choose
from app.http.problems import (
    JOB_NOT_DONE,
    JOB_TOO_LARGE,
    JOBS_FULL,
    NOT_AN_ARCHIVE,
    WEBHOOK_REFUSED,
    ProblemError,
    refuse,
)
from app.http.spool import SentFile, read_file, read_form
from app.runtime.manifest import Manifest

ARCHIVES = (ZIP, TAR, "application/gzip", "application/x-gzip", "application/octet-stream")
"""Media types of bodies that are an archive themselves; which one is seen from its bytes."""

FILES = ("image", "archive")
"""Fields of a form that are files."""

TAKEN_ON: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "The job was taken on.",
        "headers": {"Location": {"description": "Where to ask for it.", "schema": {"type": "string"}}},
    }
}
RESULT: dict[int | str, dict[str, Any]] = {
    200: {"description": "The result, packed as Accept asks.", "content": {ZIP: BINARY, TAR: BINARY}}
}

router = APIRouter(tags=["jobs"])

PLACE: dict[str, Any] = {
    "parameters": [
        {
            "name": "id",
            "in": "path",
            "required": True,
            "description": "The job's id.",
            "example": REQUEST_ID,
            "schema": {"type": "string"},
        }
    ]
}
"""What stands in the path; it is taken by hand, since the framework would document an error of its own for it."""


@router.post(
    "/v1/jobs",
    status_code=202,
    summary="Make look-alikes of many photographs, later",
    operation_id="create_job",
    response_model=schemas.JobAnswer,
    responses=TAKEN_ON
    | errors(
        400, 404, 406, 408, 413, 415, 422, 429, 500, 503,
        also=(JOB_TOO_LARGE, JOBS_FULL, NOT_AN_ARCHIVE, WEBHOOK_REFUSED),
    ),
    openapi_extra=documented_job(batch.JobParameters, ARCHIVES),
)  # fmt: skip
async def create_job(request: Request, service: Service, jobs: Jobs, worker: Worker) -> Response:
    """Take photographs, a zip or a tar of them or several files, and make look-alikes of each, in the background.

    What is made is what `python -m app augment` makes of the same files. Photographs are kept until they were used, the
    result until the job is deleted or its time is over.
    """
    choose(request, (JSON,))
    owner = _owner(request)
    room = await asyncio.to_thread(jobs.room, owner)
    async with contextmanager_in_threadpool(jobs.begun(owner)) as folder:
        sent = folder.path / "sent"
        sent.mkdir(mode=0o700)
        model = service.engine.manifest
        _asked(list(request.query_params.multi_items()), model)  # before gigabytes are read in vain
        files, pairs = await _received(request, sent, room, jobs.settings.jobs_photographs)
        parameters = _asked(pairs, model)
        if parameters.webhook is not None:
            webhooks.allowed(parameters.webhook, jobs.settings)
        record = _record(request, folder.id, owner, parameters)
        usable, refused = await asyncio.to_thread(
            unpack, folder, _sorted(files), folder.output(record, jobs.settings), room, jobs.settings
        )
        await asyncio.to_thread(shutil.rmtree, sent)
        if not usable + refused:
            raise refuse(400, "There is no photograph in what was sent.")
        record.photographs, record.skipped = usable + refused, refused
        record.bytes = await asyncio.to_thread(folder.size)
        await asyncio.to_thread(jobs.take_on, folder, record)
    worker.look()
    where = f"{request.scope.get('root_path', '')}/v1/jobs/{folder.id}"
    return Response(_shown(record, jobs).model_dump_json(), 202, {"Location": where}, JSON)


@router.get(
    "/v1/jobs",
    summary="List the jobs of a key",
    operation_id="list_jobs",
    responses=errors(403, 404),
)
def list_jobs(request: Request, jobs: Jobs) -> schemas.JobsAnswer:
    """The jobs of the key that asks, the latest first. Without keys nobody can be told apart, so there is no list."""
    owner = _owner(request)
    if not owner:
        raise refuse(403, "Without keys jobs belong to whoever knows their address; there is no list of them.")
    return schemas.JobsAnswer(jobs=[_shown(record, jobs) for record in jobs.records() if record.owner == owner])


@router.get(
    "/v1/jobs/{id}",
    summary="Ask how far a job is",
    operation_id="get_job",
    responses=errors(404),
    openapi_extra=PLACE,
)
def get_job(request: Request, jobs: Jobs) -> schemas.JobAnswer:
    """How far a job is, and where its result is once it has ended. Another key's job is not found."""
    _, record = _found(request, jobs)
    return _shown(record, jobs)


@router.get(
    "/v1/jobs/{id}/result",
    summary="Fetch the result of a job",
    operation_id="get_job_result",
    response_class=Response,
    responses=RESULT | errors(404, 406, 409, also=(JOB_NOT_DONE,)),
    openapi_extra=PLACE,
)
def get_job_result(request: Request, jobs: Jobs) -> Response:
    """The images with `manifest.jsonl`, `skipped.jsonl` and `images/metadata.jsonl`, as a zip or a tar."""
    form = choose(request, (ZIP, TAR))
    folder, record = _found(request, jobs)
    if record.open:
        detail = f"{record.used + record.skipped} of {record.photographs} photographs are done. Ask again later."
        raise ProblemError(JOB_NOT_DONE, detail, {"Retry-After": "10"})
    name = f"lookalike-{folder.id}.{'zip' if form == ZIP else 'tar'}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(packed(folder.path / "out", form), media_type=form, headers=headers)


@router.delete(
    "/v1/jobs/{id}",
    status_code=204,
    summary="Delete a job",
    operation_id="delete_job",
    responses=errors(404),
    openapi_extra=PLACE,
)
async def delete_job(request: Request, jobs: Jobs, worker: Worker) -> None:
    """Stop a job, and remove all that there is of it: photographs, images, names."""
    folder, _ = await asyncio.to_thread(_found, request, jobs)
    await worker.stop(folder.id)
    await asyncio.to_thread(jobs.delete, folder)


def _owner(request: Request) -> str:
    return str(getattr(request.state, "key", ""))


def _found(request: Request, jobs: batch.Jobs) -> tuple[batch.Folder, batch.Record]:
    found = jobs.find(request.path_params["id"], _owner(request))
    if found is None:
        raise refuse(404, "There is no such job, or it was removed when its time was over.")
    return found


async def _received(
    request: Request, folder: Path, room: int, most: int
) -> tuple[list[SentFile], list[tuple[str, str]]]:
    """The files that are sent, put into a folder, and the parameters of form and query."""
    pairs = list(request.query_params.multi_items())
    content_type = request.headers.get("content-type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    body = _within(request.stream(), room)
    if media_type == FORM:
        form = await read_form(content_type, body, FILES, folder, most)
        return form.files, pairs + form.fields
    if media_type in ARCHIVES:
        path = folder / "archive"
        await read_file(body, path)
        return [SentFile("archive", "", path)], pairs
    what = media_type or "A body without media type"
    how = f"Send {FORM} with files 'image' or 'archive', or an archive as {', '.join(ARCHIVES)}."
    raise refuse(415, f"{what} is not taken here. {how}", {"Accept": ", ".join((FORM, *ARCHIVES))})


async def _within(body: AsyncIterator[bytes], room: int) -> AsyncIterator[bytes]:
    async for chunk in body:
        room -= len(chunk)
        if room < 0:
            raise JobTooLarge("There is not so much room for jobs just now. Send fewer photographs at a time.")
        yield chunk


def _asked(pairs: list[tuple[str, str]], model: Manifest) -> batch.JobParameters:
    """The parameters, with numbers for the names of controls: the job keeps to them, whatever model comes next."""
    parameters = sized(parse(batch.JobParameters, Upload({}, once(pairs))), model.picture_sizes)
    return numbered(parameters, model.control_names)


def _sorted(files: list[SentFile]) -> Sent:
    unknown = sorted({file.field for file in files} - set(FILES))
    if unknown:
        raise refuse(422, f"{unknown[0][:64]}: is no file field of this address; there are 'image' and 'archive'.")
    return Sent(
        [(file.name, file.path) for file in files if file.field == "image"],
        [file.path for file in files if file.field == "archive"],
    )


def _record(request: Request, id_: str, owner: str, parameters: batch.JobParameters) -> batch.Record:
    own = ("layout", "labels", "webhook", "seed")
    each = VariantsParameters.model_validate(parameters.model_dump(exclude=set(own), exclude_unset=True))
    return batch.Record(
        id=id_,
        owner=owner,
        payer=caller(request),
        created=time.time(),
        parameters=each,
        seed=secrets.randbits(32) if parameters.seed is None else parameters.seed,
        layout=parameters.layout,
        labels=parameters.labels,
        photographs=0,
        webhook=None if parameters.webhook is None else batch.Webhook(url=parameters.webhook),
    )


def _shown(record: batch.Record, jobs: batch.Jobs) -> schemas.JobAnswer:
    told: dict[str, Any] = record.model_dump(include=set(schemas.JobAnswer.model_fields))
    for name in ("created", "started", "ended"):
        told[name] = _time(told[name])
    over = None if record.ended is None else record.ended + jobs.settings.jobs_keep_seconds
    return schemas.JobAnswer(
        **told
        | {
            "expires": _time(over),
            "parameters": record.parameters.model_dump(mode="json", exclude={"seed"}),
            "problem": record.problem or None,
            "result": None if record.open else f"/v1/jobs/{record.id}/result",
        }
    )


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).replace(microsecond=0)
