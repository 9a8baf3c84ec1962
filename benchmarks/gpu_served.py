"""The service on a GPU: what its requirements install, what it says of itself, and its answers over HTTP."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
import venv
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from packaging.requirements import Requirement

from app.core.generate import CONTROL_SIZE, IDENTITY_SIZE
from benchmarks import load, servers
from benchmarks.compare import Cell
from benchmarks.photo import portrait

HOME = Path("benchmarks/.gpu/environment")
"""Where the GPU image's requirements are installed."""
STAGE = re.compile(r"^FROM \S+ AS cuda-build$(.*?)^FROM ", re.MULTILINE | re.DOTALL)
EXTRAS = re.compile(r"requirements\.py ([\w ]+) >")
IMAGES = 64
"""Pictures a request: as many as one may ask for."""
CLIENT_PROCESSES = 4
"""The clients are shared among so many processes: one could not take what a GPU gives."""


def requirements() -> list[str]:
    """What the Dockerfile installs into the image for GPUs."""
    stage = STAGE.search(Path("Dockerfile").read_text(encoding="utf-8"))
    extras = EXTRAS.search(stage[1]) if stage else None
    if not extras:
        raise RuntimeError("the Dockerfile has no stage cuda-build that installs requirements any more")
    command = [sys.executable, "deploy/requirements.py", *extras[1].split()]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def installed(device: str) -> dict[str, Any]:
    """Install them in an environment of their own, and ask the runtime that is there for its providers.

    On the CPU nothing is fetched: it is said which of them this very environment has.
    """
    needed = requirements()
    if device == "cpu":
        here = {line: _here(Requirement(line)) for line in needed}
        return {"requirements": here, "left_out": "a dry run installs nothing: the versions are those of this machine"}
    python = HOME / "bin" / "python"
    venv.create(HOME, with_pip=True, clear=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    # NVIDIA's libraries are in the base image of the container; here they come from the registry.
    libraries = [line.replace("onnxruntime-gpu", "onnxruntime-gpu[cuda,cudnn]") for line in needed]
    subprocess.run([*pip, "install", "--quiet", *libraries, "--constraint", "requirements.lock"], check=True)
    subprocess.run([*pip, "check"], check=True)
    listed = subprocess.run([*pip, "list", "--format=json"], check=True, capture_output=True, text=True)
    ask = "import onnxruntime as o; o.preload_dlls(); print(','.join(o.get_available_providers()))"
    providers = subprocess.run([str(python), "-c", ask], check=True, capture_output=True, text=True).stdout.split()
    packages = {entry["name"]: entry["version"] for entry in json.loads(listed.stdout)}
    return {"requirements": needed, "packages": packages, "providers": providers[-1].split(",")}


def _here(requirement: Requirement) -> str:
    """The version that this environment has; why not, where it has none."""
    if requirement.marker and not requirement.marker.evaluate():
        return "not for this machine"
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return "not installed here"
    return found if requirement.specifier.contains(found, prereleases=True) else f"{found}, which will not do"


def _settings(device: str) -> dict[str, str]:
    """Of the service; for a dry run it makes little ready."""
    return {"device": device} | ({"batch_sizes": "1,2", "threads": "1"} if device == "cpu" else {})


def seen(device: str) -> dict[str, Any]:
    """What `doctor` says of the machine, and what a service on it says of its readiness and its device."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LOOKALIKE_")}
    settings = _settings(device)
    environment |= {f"LOOKALIKE_{key.upper()}": value for key, value in settings.items()}
    command = [sys.executable, "-m", "app", "doctor", "--json"]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    doctor = json.loads(said.stdout)
    with servers.service(**settings) as server:
        status, ready = _got(server.port, "/health/ready")
        _, metrics = _got(server.port, "/metrics")
    told = re.search(r'lookalike_model_info\{[^}]*device="(\w+)"', metrics)
    return {
        "doctor": {name: doctor[name] for name in ("versions", "provider", "wrong", "notes")},
        "doctor_status": said.returncode,
        "ready": {"status": status, "answer": json.loads(ready), "seconds": round(server.ready, 2)},
        "device": told[1] if told else "",
    }


def _got(port: int, path: str) -> tuple[int, str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.status, answer.read().decode()


def message(form: str, images: int) -> bytes:
    """A request for so many pictures: `zip` and `json` of a photograph, `render zip` and `tensors` of an identity."""
    random = np.random.default_rng(0)
    identity = random.standard_normal(IDENTITY_SIZE).astype(np.float32)
    if form in ("zip", "json"):
        accept = {"Accept": f"application/{form}"}
        return load.request(f"/v1/variants?count={images}&seed=1", "image/jpeg", portrait(), accept)
    if form == "render zip":
        body = json.dumps({"identity": identity.tolist(), "count": images, "seed": 1}).encode()
        return load.request("/v1/render", "application/json", body, {"Accept": "application/zip"})
    tensors = {
        "identity": np.repeat(identity[None], images, 0),
        "control": random.uniform(-1, 1, (images, CONTROL_SIZE)).astype("<f4"),
    }
    inputs = [
        {
            "name": name,
            "datatype": "FP32",
            "shape": list(value.shape),
            "parameters": {"binary_data_size": value.nbytes},
        }
        for name, value in tensors.items()
    ]
    outputs = [{"name": "image", "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
    body = head + b"".join(value.tobytes() for value in tensors.values())
    length = {"Inference-Header-Content-Length": str(len(head))}
    return load.request("/v2/models/decoder/infer", "application/octet-stream", body, length)


def over_http(
    device: str, precision: str, forms: Sequence[str], clients: Sequence[int], images: int, seconds: float, repeats: int
) -> dict[str, Any]:
    """Pictures a second over HTTP, by form of answer and by connections; rounds that take turns."""
    cells = {form: {str(count): Cell() for count in clients} for form in forms}
    settings = _settings(device) | ({"precision": precision} if device == "cuda" else {})
    with ExitStack() as stack:
        server = stack.enter_context(servers.service(**settings))
        processes = stack.enter_context(ProcessPoolExecutor(CLIENT_PROCESSES, mp_context=get_context("spawn")))
        for form in forms:
            load.run(server.port, message(form, images), 1, images, 0)
        for _ in range(repeats):
            for count in clients:
                for form in forms:
                    _measure(server, processes, form, count, images, seconds, cells[form][str(count)])
    return {form: {count: cell.told() for count, cell in row.items()} for form, row in cells.items()}


def _measure(
    server: servers.Server,
    processes: ProcessPoolExecutor,
    form: str,
    clients: int,
    images: int,
    seconds: float,
    cell: Cell,
) -> None:
    """Have the clients, shared among the processes, ask for a while."""
    shares = [clients // CLIENT_PROCESSES + (index < clients % CLIENT_PROCESSES) for index in range(CLIENT_PROCESSES)]
    asked, before = message(form, images), server.cpu_seconds()
    running = [processes.submit(load.run, server.port, asked, share, images, seconds) for share in shares if share]
    runs = [future.result() for future in running]
    done = images * sum(run.requests for run in runs)
    cell.rates.append(sum(run.images_per_second for run in runs))
    cell.cpu.append((server.cpu_seconds() - before) / done * 1000)
    cell.times += [each for run in runs for each in run.times]
