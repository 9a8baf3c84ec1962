"""Open Inference Protocol v2 on the same port, for Triton and KServe clients: the networks, tensors in and out."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from app import __version__
from app.errors import NotReady
from app.http.bodies import refuse_if_full
from app.http.connection import while_connected
from app.http.dependencies import Charge, Readiness, Service
from app.http.encodings import inflate
from app.http.inference_protocol import (
    JSON_LENGTH,
    PREFIX,
    InferenceAnswer,
    InferenceRequest,
    ProtocolError,
    read_inference,
    write_answer,
)
from app.http.problems import refuse
from app.http.tensors import MAX_ROWS, NAMES, Tensor, infer, tensor_models

SERVER = "lookalike"
LATEST = "latest"
"""A version that is always there: the one that is served."""
PLACES = {"model_name": "decoder", "model_version": LATEST}
"""Parameters in the path, each with an example."""

router = APIRouter(prefix=PREFIX, tags=["open inference protocol"])


class ServerMetadata(BaseModel):
    """The server, and what it speaks beyond the protocol's core."""

    name: str
    version: str
    extensions: list[str]


class Live(BaseModel):
    """Whether the server is alive."""

    live: bool


class Ready(BaseModel):
    """Whether the server or model takes requests."""

    name: str | None = None
    ready: bool


class TensorMetadata(BaseModel):
    """An input or output; -1 is the batch dimension."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any]
    """`description`, and `maximum_magnitude` where values are bounded."""


class ModelMetadata(BaseModel):
    """A network and its tensors."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    parameters: dict[str, Any]
    """`description`, and `max_batch_size` in rows."""


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    meanings = {
        400: "The request cannot be understood",
        404: "There is no such model or version",
        408: "The body took too long to arrive",
        413: "The body is too large",
        415: "The body has a content encoding that is not taken",
        503: "The service is busy or not ready; Retry-After says when to try again",
        504: "The answer took too long",
    }
    return {status: {"model": ProtocolError, "description": meanings[status] + "."} for status in statuses}


def _inlined(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of a body that is read by hand, without references to components that nobody registers."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs")

    def resolve(part: Any) -> Any:
        if isinstance(part, list):
            return [resolve(item) for item in part]
        if not isinstance(part, dict):
            return part
        part = dict(part)
        if "$ref" in part:
            part = definitions[part.pop("$ref").rpartition("/")[2]] | part
        return {key: resolve(value) for key, value in part.items()}

    resolved: dict[str, Any] = resolve(schema)
    return resolved


INFER: dict[str, Any] = {
    "summary": "Compute outputs from input tensors",
    "response_model": InferenceAnswer,
    "response_model_exclude_none": True,
    "responses": {
        200: {
            "description": "JSON, or JSON and binary tensors where an output is asked for in binary.",
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    }
    | _errors(400, 404, 408, 413, 415, 503, 504),
}


def _place(*names: str) -> dict[str, Any]:
    """The OpenAPI of parameters in the path."""
    return {
        "parameters": [
            {"name": name, "in": "path", "required": True, "example": PLACES[name], "schema": {"type": "string"}}
            for name in names
        ]
    }


def _tensors(*names: str) -> dict[str, Any]:
    """The OpenAPI of an inference: its place, its header, its body."""
    length = {
        "name": JSON_LENGTH,
        "in": "header",
        "required": False,
        "description": "Length of the JSON in bytes, where binary tensors follow it.",
        "schema": {"type": "integer", "minimum": 1},
    }
    return {
        "parameters": [*_place(*names)["parameters"], length],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": _inlined(InferenceRequest),
                    "example": {
                        "inputs": [
                            {"name": "identity", "datatype": "FP32", "shape": [1, 70], "data": [0.0] * 70},
                            {"name": "control", "datatype": "FP32", "shape": [1, 10], "data": [0.0] * 10},
                        ]
                    },
                },
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            },
        },
    }


@router.get("", summary="Describe the server", operation_id="get_server_metadata")
async def get_server_metadata() -> ServerMetadata:
    """Name, version and the extensions that are spoken."""
    return ServerMetadata(name=SERVER, version=__version__, extensions=["binary_tensor_data"])


@router.get("/health/live", summary="Is the server alive?", operation_id="get_server_live")
async def get_server_live() -> Live:
    """Whether the event loop turns."""
    return Live(live=True)


@router.get(
    "/health/ready",
    summary="Does the server take requests?",
    operation_id="get_server_ready",
    response_model_exclude_none=True,
    responses=_errors(503),
)
async def get_server_ready(readiness: Readiness) -> Ready:
    """Whether the models are warm, the queue is not full, and the service is not about to stop."""
    _check(readiness)
    return Ready(ready=True)


@router.get(
    "/models/{model_name}",
    summary="Describe a network",
    operation_id="get_model_metadata",
    responses=_errors(404, 503),
    openapi_extra=_place("model_name"),
)
@router.get(
    "/models/{model_name}/versions/{model_version}",
    summary="Describe a version of a network",
    operation_id="get_model_version_metadata",
    responses=_errors(404, 503),
    openapi_extra=_place("model_name", "model_version"),
)
async def get_model_metadata(request: Request, service: Service) -> ModelMetadata:
    """Its version, and the name, datatype and shape of its tensors."""
    model = tensor_models(service.engine.sizes)[_name(request, service)]
    return ModelMetadata(
        name=model.name,
        versions=[_version(service)],
        platform="onnxruntime_onnx",
        inputs=[_described(tensor) for tensor in model.inputs],
        outputs=[_described(tensor) for tensor in model.outputs],
        parameters={"description": model.meaning, "max_batch_size": MAX_ROWS},
    )


@router.get(
    "/models/{model_name}/ready",
    summary="Does a network take requests?",
    operation_id="get_model_ready",
    responses=_errors(404, 503),
    openapi_extra=_place("model_name"),
)
@router.get(
    "/models/{model_name}/versions/{model_version}/ready",
    summary="Does a version of a network take requests?",
    operation_id="get_model_version_ready",
    responses=_errors(404, 503),
    openapi_extra=_place("model_name", "model_version"),
)
async def get_model_ready(request: Request, service: Service, readiness: Readiness) -> Ready:
    """Whether the network is warm and requests are taken."""
    name = _name(request, service)
    _check(readiness)
    return Ready(name=name, ready=True)


@router.post("/models/{model_name}/infer", operation_id="infer", openapi_extra=_tensors("model_name"), **INFER)
@router.post(
    "/models/{model_name}/versions/{model_version}/infer",
    operation_id="infer_version",
    openapi_extra=_tensors("model_name", "model_version"),
    **INFER,
)
async def infer_model(request: Request, service: Service, charge: Charge) -> Response:
    """Run a network on 1 to 64 rows. Tensors travel as JSON, or after it as raw little-endian bytes.

    Rows of many requests share batches, those of the other addresses included. Images that leave as tensors carry no
    mark of their origin: whoever makes pictures of them marks those.
    """
    name = _name(request, service)
    refuse_if_full(service.gate)
    body = await request.body()
    encoding = request.headers.get("content-encoding", "").strip().lower()
    json_length = request.headers.get(JSON_LENGTH)

    async def answer() -> Response:
        deadline = asyncio.get_running_loop().time() + service.settings.deadline
        engine = service.engine
        model = tensor_models(engine.sizes)[name]
        inference = await service.threads.run(
            lambda: read_inference(model, inflate(body, encoding, service.settings.max_bytes), json_length), deadline
        )
        rows = max((tensor.shape[0] for tensor in inference.tensors.values() if tensor.ndim), default=1)
        await charge(min(rows, MAX_ROWS))
        tensors = await infer(service.gate, engine, model, inference.tensors, deadline)
        content, headers = await service.threads.run(
            lambda: write_answer(model.name, engine.manifest.version, inference, tensors), deadline
        )
        return Response(content, headers=headers)

    return await while_connected(request, answer())


def _name(request: Request, service: Service) -> str:
    # Taken by hand, since a declared parameter would bring the framework's own 422 into the documentation.
    name: str = request.path_params["model_name"]
    version = request.path_params.get("model_version")
    if name not in NAMES:
        raise refuse(404, f"There is no model of this name; there are {', '.join(NAMES)}.")
    if version not in (None, LATEST, _version(service)):
        raise refuse(404, f"There is no such version of model '{name}'; there is {_version(service)}, or {LATEST}.")
    return name


def _version(service: Service) -> str:
    return service.engine.manifest.version


def _check(readiness: Readiness) -> None:
    if reason := readiness.unready():
        raise NotReady(reason)


def _described(tensor: Tensor) -> TensorMetadata:
    parameters: dict[str, Any] = {"description": tensor.meaning}
    if tensor.bound is not None:
        parameters["maximum_magnitude"] = tensor.bound
    return TensorMetadata(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape, parameters=parameters)
