"""Errors as RFC 9457 problem details: the one table from what went wrong to what HTTP says.

`type` is a stable name that programs can compare; `detail` is for people and says what to do. No answer carries a stack
trace or anything of the request's body.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app import errors
from app.http import schemas

PREFIX = "urn:lookalike:problem:"
MEDIA_TYPE = "application/problem+json"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kind:
    """A kind of problem: its HTTP status, its stable name, and its title."""

    status: int
    slug: str
    title: str


BAD_REQUEST = Kind(400, "bad-request", "The request cannot be understood")
INVALID_PARAMETERS = Kind(422, "invalid-parameters", "Some parameters are not valid")
TOO_MANY_REQUESTS = Kind(429, "too-many-requests", "The rate limit is reached")
INTERNAL = Kind(500, "internal", "The service failed")
BAND_EMPTY = Kind(422, "band-empty", "No variant was found inside the band")
NOT_READY = Kind(503, "not-ready", "The service is not ready")
MODEL_INVALID = Kind(409, "model-invalid", "The new model cannot be served, the old one is")
JOB_TOO_LARGE = Kind(413, "job-too-large", "The job is too large")
JOBS_FULL = Kind(503, "jobs-full", "The disk for jobs is full")
JOB_NOT_DONE = Kind(409, "job-not-done", "The job has not ended yet")
NOT_AN_ARCHIVE = Kind(400, "not-an-archive", "The archive cannot be read")
NO_COHORT = Kind(422, "no-cohort", "There is no cohort to normalise by")
WEBHOOK_REFUSED = Kind(422, "webhook-refused", "The webhook is not allowed")

EXCEPTIONS: dict[type[Exception], Kind] = {
    errors.NotAnImage: Kind(400, "not-an-image", "The body is not an image"),
    errors.TooManyPixels: Kind(413, "too-many-pixels", "The image has too many pixels"),
    errors.NoFace: Kind(422, "no-face", "No face was found"),
    errors.FaceNotFound: Kind(422, "face-not-found", "There is no face with this index"),
    errors.FaceTooSmall: Kind(422, "face-too-small", "The face is too small"),
    errors.HeadTurned: Kind(422, "head-turned", "The head is turned too far"),
    errors.UnlikeAFace: Kind(422, "unlike-a-face", "This is unlike the photograph of a face"),
    errors.UnknownControl: Kind(422, "unknown-control", "There is no such control"),
    errors.UnknownSize: Kind(422, "unknown-size", "The model draws no pictures of this size"),
    errors.NoCohort: NO_COHORT,
    errors.ReferenceInvalid: Kind(422, "reference-invalid", "The reference cannot be used"),
    errors.TensorInvalid: BAD_REQUEST,
    errors.BandEmpty: BAND_EMPTY,
    errors.NotReady: NOT_READY,
    errors.ModelsInvalid: MODEL_INVALID,
    errors.ProviderUnavailable: MODEL_INVALID,
    errors.Overloaded: Kind(503, "overloaded", "The service is busy"),
    errors.DeadlineExceeded: Kind(504, "deadline-exceeded", "The answer took too long"),
    errors.ComputationFailed: INTERNAL,
    errors.JobTooLarge: JOB_TOO_LARGE,
    errors.JobsFull: JOBS_FULL,
    errors.TooManyJobs: TOO_MANY_REQUESTS,
    errors.SourceUnreadable: NOT_AN_ARCHIVE,
    errors.WebhookRefused: WEBHOOK_REFUSED,
}

SOMEWHERE = (BAND_EMPTY, MODEL_INVALID, JOB_TOO_LARGE, JOBS_FULL, NOT_AN_ARCHIVE, NO_COHORT, WEBHOOK_REFUSED)
"""Kinds that only the routes which say so answer with."""

STATUSES: dict[int, Kind] = {
    400: BAD_REQUEST,
    401: Kind(401, "unauthorized", "A key is needed"),
    403: Kind(403, "forbidden", "The key does not allow this"),
    404: Kind(404, "not-found", "There is nothing at this address"),
    405: Kind(405, "method-not-allowed", "This address does not take that method"),
    406: Kind(406, "not-acceptable", "No acceptable form of answer"),
    408: Kind(408, "request-timeout", "The body took too long to arrive"),
    413: Kind(413, "too-many-bytes", "The body is too large"),
    415: Kind(415, "unsupported-media-type", "The body has a media type that is not taken"),
    422: INVALID_PARAMETERS,
    429: TOO_MANY_REQUESTS,
    500: INTERNAL,
    503: Kind(503, "overloaded", "The service is busy"),
    504: Kind(504, "deadline-exceeded", "The answer took too long"),
}

DETAILS: dict[str, str] = {
    "not-found": "See /docs for the addresses that there are.",
    "method-not-allowed": "See the Allow header, and /docs.",
    "deadline-exceeded": "Ask for fewer images, or try again when the service is less busy.",
    "overloaded": "Try again after the time in the Retry-After header.",
    "internal": "This is a defect of the service; its log has more under the request id.",
}


class ProblemError(Exception):
    """A problem that routes find themselves: raise it with the kind and a detail that says what to do."""

    def __init__(self, kind: Kind, detail: str, headers: dict[str, str] | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.headers, self.more = kind, detail, headers or {}, more


def refuse(status: int, detail: str, headers: dict[str, str] | None = None) -> ProblemError:
    """The problem that belongs to a status."""
    return ProblemError(STATUSES[status], detail, headers)


def body(kind: Kind, detail: str, request_id: str, **more: Any) -> bytes:
    """The JSON of a problem."""
    problem = schemas.Problem(
        type=PREFIX + kind.slug, title=kind.title, status=kind.status, detail=detail, request_id=request_id, **more
    )
    return problem.model_dump_json(exclude_none=True).encode()


def kind_of(error: Exception) -> Kind:
    """The kind of an exception; an unknown one is a defect of the service."""
    if isinstance(error, ProblemError):
        return error.kind
    if isinstance(error, HTTPException):
        return STATUSES.get(error.status_code) or Kind(
            error.status_code, f"http-{error.status_code}", HTTPStatus(error.status_code).phrase
        )
    if isinstance(error, RequestValidationError):
        return INVALID_PARAMETERS
    return next((kind for type_, kind in EXCEPTIONS.items() if isinstance(error, type_)), INTERNAL)


def describe(error: Exception, request_id: str) -> tuple[Kind, bytes, dict[str, str]]:
    """An exception as kind, JSON body and extra headers."""
    kind = kind_of(error)
    detail = "" if kind is INTERNAL else str(error)
    headers: dict[str, str] = {}
    more: dict[str, Any] = {}
    if isinstance(error, ProblemError):
        headers, more = error.headers, error.more
    elif isinstance(error, HTTPException):
        headers = dict(error.headers or {})
        default = HTTPStatus(error.status_code).phrase
        detail = "" if error.detail == default else str(error.detail)
    elif isinstance(error, errors.Overloaded):
        headers = {"Retry-After": str(error.retry_after)}
        detail = f"{detail} Try again in {error.retry_after} s."
    elif isinstance(error, errors.NotReady):
        headers = {"Retry-After": "1"}
    elif isinstance(error, errors.JobsFull | errors.TooManyJobs):
        headers = {"Retry-After": "60"}
    elif isinstance(error, errors.SourceUnreadable):
        detail = "It is neither a tar nor a zip, or it is damaged."  # the message names a file of the service
    elif isinstance(error, RequestValidationError):
        more["errors"] = parameter_problems(error.errors())
        detail = "; ".join(f"{item.name}: {item.message}" for item in more["errors"])
    return kind, body(kind, detail or DETAILS.get(kind.slug, kind.title), request_id, **more), headers


def parameter_problems(found: Sequence[Any]) -> list[schemas.ParameterProblem]:
    """Validation errors as names and messages, without the values that were sent."""
    problems = []
    for error in found:
        # After the name only places within a list: names of validators are nobody's business outside.
        parts = [part for part in error["loc"] if part not in ("body", "query")]
        place = [str(part) for index, part in enumerate(parts) if index == 0 or isinstance(part, int)]
        if error["type"] == "extra_forbidden":
            message = "is not a parameter of this address"
        elif error["type"] == "json_invalid":
            place, message = [], "is not valid JSON"
        else:
            message = error["msg"].removeprefix("Value error, ")
        problems.append(schemas.ParameterProblem(name=".".join(place) or "request", message=message))
    return problems


def install(app: FastAPI) -> None:
    """Make every error of the application a problem."""
    for type_ in (ProblemError, HTTPException, RequestValidationError, *EXCEPTIONS):
        app.add_exception_handler(type_, _answer)
    app.add_exception_handler(ClientDisconnect, _gone)


async def _answer(request: Request, error: Exception) -> Response:
    kind, content, headers = describe(error, request.state.request_id)
    request.state.problem = kind.slug
    return Response(content, kind.status, headers, MEDIA_TYPE)


async def _gone(request: Request, error: Exception) -> Response:  # noqa: ARG001 - the framework passes both
    """Nobody reads this: the client went away."""
    request.state.problem = "client-gone"
    return Response(status_code=499)
