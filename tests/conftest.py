"""What every test may use: real photographs, and the real application on the shipped models."""

from __future__ import annotations

import gc
import io
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import certifi
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image
from skimage import data

from app.main import create_app
from app.settings import Settings
from tests import programs
from tests.networks import load_once
from tests.patience import PATIENCE
from tests.server import Server
from tests.skipped import told

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

    from tests.ray_cluster import TwoNodes


# More processes run tests than there are cores, and they start others. Threads of PyTorch and of NumPy that wait for
# each other spin meanwhile: two a process, on a core a process, cost two fifths more of the CPU in training. Processes
# that run tests take this from the one that starts them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

LONGEST_PARAMETERS = 150
"""Characters of a test's name that its parameters may take."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    from tests.scheduling import Scheduling

    return Scheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[object]:
    """Search for no garbage in what is imported, neither meanwhile nor in any test: it is millions of objects."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse names that hold a whole file or a secret: each process makes its own, and they must find the same."""
    if long := [item.nodeid for item in items if len(item.nodeid.partition("[")[2]) > LONGEST_PARAMETERS]:
        raise pytest.UsageError(f"give each of these cases a name, pytest.param(..., id=...): {long}")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Say what was skipped, below everything else."""
    yield
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminal and not hasattr(session.config, "workerinput"):
        found = [(one.nodeid, str(one.longrepr[2]).removeprefix("Skipped: ")) for one in terminal.getreports("skipped")]
        for line in told(found, programs.missing()):
            terminal.write_line(line)


def encoded(image: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    output = io.BytesIO()
    image.save(output, form, **options)
    return output.getvalue()


@pytest.fixture(scope="session", autouse=True)
def _networks_are_loaded_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        load_once(patch)
        yield


@pytest.fixture(scope="session", autouse=True)
def _certificates_are_read_once() -> Iterator[None]:
    """Those that httpx trusts: each of its clients, and each request without one, would read them anew."""
    once = cache(ssl.create_default_context)

    def make(*given: Any, **named: Any) -> ssl.SSLContext:
        return (once if named == {"cafile": certifi.where()} else ssl_context)(*given, **named)

    ssl_context = ssl.create_default_context
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", make)
        yield


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """The path of a program that pip may not bring; where it cannot be had, the test is skipped."""

    def find(name: str) -> str:
        found = programs.find(name)
        if not found:
            pytest.skip(f"there is no {name} on this machine")
        return found

    return find


@pytest.fixture(scope="session")
def portrait() -> Image.Image:
    """A photograph of Eileen Collins (NASA, public domain), 512x512."""
    return Image.fromarray(data.astronaut())


@pytest.fixture(scope="session")
def photo(portrait: Image.Image) -> bytes:
    return encoded(portrait, quality=95)


@pytest.fixture(scope="session")
def landscape() -> bytes:
    """A photograph without a face: a rocket on its launch pad."""
    return encoded(Image.fromarray(data.rocket()))


@pytest.fixture(scope="session")
def group(portrait: Image.Image) -> bytes:
    """Two faces: the portrait, and to its right a mirrored, brightened one at two thirds of the size."""
    small = Image.fromarray(np.uint8(np.asarray(portrait)[:, ::-1] * 0.8 + 40)).resize((342, 342))
    canvas = Image.new("RGB", (512 + 342, 512), "gray")
    canvas.paste(portrait, (0, 0))
    canvas.paste(small, (512, 85))
    return encoded(canvas, quality=95)


@pytest.fixture(scope="session")
def client() -> Iterator[TestClient]:
    """The application on the shipped models."""
    with TestClient(create_app(Settings(device="cpu", deadline=PATIENCE))) as client:
        yield client


@pytest.fixture
def new_client() -> Iterator[Callable[..., TestClient]]:
    """Makes further applications with other settings, for one test."""
    clients: list[TestClient] = []

    def make(**settings: object) -> TestClient:
        few = {"device": "cpu", "batch_sizes": (1, 4), "deadline": PATIENCE}  # few sizes: less to warm
        chosen = Settings(**few | settings)
        client = TestClient(create_app(chosen), raise_server_exceptions=False)
        clients.append(client)
        return client.__enter__()

    yield make
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts servers, and ends them after the test."""
    servers: list[Server] = []

    def start(**settings: object) -> Server:
        servers.append(Server(**settings))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[TwoNodes]:
    """A Ray cluster of two nodes on this machine, for all tests that scheduling.py keeps together for it."""
    from tests.ray_cluster import two_nodes  # seconds to import, and few tests need it

    with two_nodes() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def running() -> Callable[[FastAPI], AbstractContextManager[str]]:
    """Runs an application on a real socket of this machine; gives its address, "127.0.0.1:PORT"."""

    @contextmanager
    def run(app: FastAPI) -> Iterator[str]:
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.05)
        yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        server.should_exit = True
        thread.join()

    return run
