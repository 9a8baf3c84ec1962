"""Content negotiation (RFC 9110, section 12): which form of answer the Accept header asks for."""

from __future__ import annotations

from typing import TypeVar, get_args

import mimeparse
from fastapi import Request

from app.core.images import Format
from app.core.parameters import PictureParameters
from app.http.problems import refuse

JSON = "application/json"
ZIP = "application/zip"
NDJSON = "application/x-ndjson"

P = TypeVar("P", bound=PictureParameters)


def choose(request: Request, offers: tuple[str, ...]) -> str:
    """The offer that the client likes best; of equals the first.

    Raises:
        ProblemError: 406, it accepts none of them.
    """
    # Media types are the same in capitals (RFC 9110, section 8.3.1).
    accept = ",".join(request.headers.getlist("accept")).lower() or "*/*"
    try:
        best = str(mimeparse.best_match(offers[::-1], accept))
    except mimeparse.MimeTypeParseException:
        raise refuse(406, f"The Accept header cannot be read. {_offered(offers)}") from None
    if not best:
        raise refuse(406, _offered(offers))
    return best


def choose_picture(request: Request, parameters: P, others: tuple[str, ...]) -> tuple[str, P]:
    """The form of answer, and the parameters with the image format that it implies.

    An image media type in Accept names the format, unless the parameter `format` was given as well: then only that
    format is on offer.
    """
    formats: tuple[Format, ...] = (parameters.format,)
    every: tuple[Format, ...] = get_args(Format)
    if "format" not in parameters.model_fields_set:
        formats += tuple(form for form in every if form != parameters.format)
    form = choose(request, (*others, *(f"image/{name}" for name in formats)))
    if form.startswith("image/"):
        parameters = parameters.model_copy(update={"format": form.removeprefix("image/")})
    return form, parameters


def _offered(offers: tuple[str, ...]) -> str:
    return f"Accept one of {', '.join(offers)}."
