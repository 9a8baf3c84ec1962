"""The wire form of the Open Inference Protocol v2: JSON, and the binary tensor data extension.

A request is JSON, or JSON followed by the raw little-endian bytes of tensors; Inference-Header-Content-Length
says where the JSON ends. Everything is checked against the network before an array is made.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import TensorInvalid
from app.http.problems import MEDIA_TYPE, refuse
from app.http.tensors import Tensor, TensorModel, Tensors

PREFIX = "/v2"
JSON_LENGTH = "Inference-Header-Content-Length"

MAX_TENSORS = 16
"""Inputs or outputs that a request may name; no network has half as many."""
Dimension = Annotated[int, Field(ge=0, lt=2**31)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)  # `true` is no number, nor is "5"


class TensorParameters(_Strict):
    """What the binary extension says about a tensor."""

    binary_data_size: int | None = Field(None, ge=0)
    """Of an input or an output in the answer: its size in bytes after the JSON; `data` is then left out."""

    binary_data: bool | None = None
    """Of an output asked for: whether to answer in binary."""

    shared_memory_region: str | None = Field(None, exclude=True)
    classification: int | None = Field(None, exclude=True)


class RequestInput(_Strict):
    """An input tensor."""

    name: str
    shape: list[Dimension]
    datatype: str
    parameters: TensorParameters = TensorParameters()
    data: list[Any] | None = None
    """Its elements in row-major order, nested or flat."""


class RequestOutput(_Strict):
    """An output tensor that is asked for."""

    name: str
    parameters: TensorParameters = TensorParameters()


class RequestParameters(_Strict):
    """Parameters of a request."""

    binary_data_output: bool = False
    """Whether to answer all outputs in binary that do not say otherwise."""


class InferenceRequest(_Strict):
    """What to compute."""

    id: str | None = Field(None, max_length=256)
    parameters: RequestParameters = RequestParameters()
    inputs: list[RequestInput] = Field(max_length=MAX_TENSORS)
    outputs: list[RequestOutput] = Field([], max_length=MAX_TENSORS)
    """All outputs where none is named."""


class AnswerOutput(BaseModel):
    """An output tensor."""

    name: str
    shape: list[int]
    datatype: str
    parameters: TensorParameters | None = None
    data: list[float] | None = None


class InferenceAnswer(BaseModel):
    """What was computed."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[AnswerOutput]


class ProtocolError(BaseModel):
    """What went wrong."""

    error: str


@dataclass(frozen=True)
class Inference:
    """A request that was read: its tensors, and which outputs it wants, each in binary or not."""

    id: str | None
    tensors: Tensors
    outputs: list[tuple[Tensor, bool]]


def read_inference(model: TensorModel, body: bytes, json_length: str | None) -> Inference:
    """Read a request.

    Args:
        model: what it is for.
        body: the whole body.
        json_length: the value of Inference-Header-Content-Length, where it was sent.

    Raises:
        ProblemError: 400, with what is wrong.
        TensorInvalid: a tensor is.
    """
    end = len(body)
    if json_length is not None:
        if not (json_length.isascii() and json_length.isdecimal() and len(json_length) < 12):
            raise refuse(400, f"{JSON_LENGTH} is not a number.")
        end = int(json_length)
        if not 0 < end <= len(body):
            raise refuse(400, f"{JSON_LENGTH} is {end}, but the body has {len(body)} bytes.")
    try:
        request = InferenceRequest.model_validate(from_json(body[:end], allow_inf_nan=False))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise refuse(400, f"{'.'.join(map(str, first['loc'])) or 'request'}: {first['msg']}") from None
    except ValueError:
        raise refuse(400, "The request is not valid JSON.") from None
    return _read(model, request, memoryview(body)[end:])


def write_answer(name: str, version: str, inference: Inference, tensors: Tensors) -> tuple[bytes, dict[str, str]]:
    """The body of an answer, and its headers."""
    head = {"model_name": name, "model_version": version} | ({"id": inference.id} if inference.id is not None else {})
    texts, tail = [], []
    for tensor, binary in inference.outputs:
        values = np.ascontiguousarray(tensors[tensor.name], tensor.dtype)
        entry: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(values.shape)}
        if binary:
            texts.append(json.dumps(entry | {"parameters": {"binary_data_size": values.nbytes}}))
            tail.append(values.tobytes())
        else:
            # Row by row: one call for all would keep the other threads waiting for its whole time.
            data = ",".join(json.dumps(row.ravel().tolist())[1:-1] for row in values)
            texts.append(f'{json.dumps(entry)[:-1]}, "data": [{data}]}}')
    text = f'{json.dumps(head)[:-1]}, "outputs": [{", ".join(texts)}]}}'.encode()
    if not tail:
        return text, {"Content-Type": "application/json"}
    return b"".join((text, *tail)), {"Content-Type": "application/octet-stream", JSON_LENGTH: str(len(text))}


class ProtocolErrors:
    """Turns every problem under /v2 into the protocol's `{"error": "..."}`, whatever layer it came from."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope.get("path", "")
        if scope["type"] != "http" or not (path == PREFIX or path.startswith(PREFIX + "/")):
            await self._app(scope, receive, send)
            return
        held: Message | None = None
        problem = b""

        async def send_on(message: Message) -> None:
            nonlocal held, problem
            if message["type"] == "http.response.start":
                headers = dict(message["headers"])
                if headers.get(b"content-type", b"").decode("latin-1").startswith(MEDIA_TYPE):
                    held = message
                    return
            elif held is not None:
                problem += message.get("body", b"")
                if message.get("more_body", False):
                    return
                # An answer to HEAD announces a body, but has none.
                content = json.dumps({"error": json.loads(problem)["detail"]}).encode() if problem else b""
                replaced = {b"content-type": b"application/json", b"content-length": str(len(content)).encode()}
                others = [(name, value) for name, value in held["headers"] if name not in replaced]
                await send(dict(held, headers=others + list(replaced.items())))
                message = dict(message, body=content)
            await send(message)

        await self._app(scope, receive, send_on)


def _read(model: TensorModel, request: InferenceRequest, binary: memoryview) -> Inference:
    given = [item.name for item in request.inputs]
    asked = [item.name for item in request.outputs]
    for name, times in [*Counter(given).items(), *Counter(asked).items()]:
        if times > 1:
            raise TensorInvalid(f"'{name[:64]}' is given more than once")
    kinds = [model.input(name) for name in given]
    outputs = [model.output(name) for name in asked] or list(model.outputs)
    for missing in {tensor.name for tensor in model.inputs} - set(given):
        raise TensorInvalid(f"input '{missing}' is missing")
    for kind, item in zip(kinds, request.inputs, strict=True):
        kind.check_kind(item.datatype, item.shape)
    said = [*(item.parameters for item in request.inputs), *(item.parameters for item in request.outputs)]
    for parameters in said:
        if parameters.shared_memory_region is not None or parameters.classification is not None:
            raise TensorInvalid("shared memory and classification are not supported")
    tensors: Tensors = {}
    for kind, item in zip(kinds, request.inputs, strict=True):
        size = item.parameters.binary_data_size
        if size is None:
            tensors[kind.name] = _from_data(kind, item)
            continue
        expected = math.prod(item.shape) * kind.dtype.itemsize
        if item.data is not None:
            raise TensorInvalid(f"input '{kind.name}' has both data and binary_data_size")
        if size != expected or size > len(binary):
            raise TensorInvalid(
                f"input '{kind.name}' of shape {item.shape} has {expected} bytes; "
                f"binary_data_size is {size}, and {len(binary)} bytes are left"
            )
        tensors[kind.name] = np.frombuffer(binary[:size], kind.dtype).reshape(item.shape)
        binary = binary[size:]
    if binary:
        raise TensorInvalid(f"{len(binary)} bytes follow the last tensor")
    wanted = [item.parameters.binary_data for item in request.outputs] or [None] * len(outputs)
    default = request.parameters.binary_data_output
    return Inference(
        request.id,
        tensors,
        [(output, default if choice is None else choice) for output, choice in zip(outputs, wanted, strict=True)],
    )


def _from_data(kind: Tensor, item: RequestInput) -> NDArray[Any]:
    """The elements that stand in the JSON, nested or flat, as the network takes them."""
    if item.data is None:
        raise TensorInvalid(f"input '{kind.name}' has no data")
    # Row by row, as in `write_answer`; of flat data the row is a slice.
    per_row = math.prod(kind.row)
    if len(item.data) == item.shape[0] != item.shape[0] * per_row:
        rows = item.data
    elif len(item.data) == item.shape[0] * per_row:
        rows = [item.data[start : start + per_row] for start in range(0, len(item.data), per_row)]
    else:
        raise TensorInvalid(f"input '{kind.name}' of shape {item.shape} does not have {len(item.data)} elements")
    values = np.empty(item.shape, kind.dtype)
    for index, row in enumerate(rows):
        values[index] = _from_row(kind, row)
    return values


def _from_row(kind: Tensor, row: object) -> NDArray[Any]:
    whole = kind.datatype == "UINT8"
    try:
        found = np.asarray(row)
    except (ValueError, OverflowError):  # of uneven lengths, or beyond any integer
        found = np.empty(0)
    if found.dtype.kind not in ("iu" if whole else "iuf") or found.shape not in (kind.row, (math.prod(kind.row),)):
        what = "integers" if whole else "numbers"
        raise TensorInvalid(f"a row of input '{kind.name}' must be {what} of shape {list(kind.row)}")
    if whole and (found.min() < 0 or found.max() > 255):
        raise TensorInvalid(f"input '{kind.name}' must be in 0..255")
    with np.errstate(over="ignore"):  # what single precision cannot hold becomes infinite, and is refused as such
        return found.astype(kind.dtype).reshape(kind.row)
