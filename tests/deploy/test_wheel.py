"""The wheel is all that is needed: models, page and command are inside."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import httpx
import pytest

from app.runtime.manifest import parse_manifest
from tests.patience import PATIENCE, until
from tests.ports import Port


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that `pip wheel` makes of the files under version control."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    done = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("this is no git repository")
    for name in done.stdout.splitlines():
        if name.startswith(("app/", "model_export/")) or name in ("pyproject.toml", "README.md", "LICENSE"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).symlink_to(root / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(source)]
    command += ["--no-build-isolation"]  # nothing is downloaded: PyTorch needs setuptools, so it is here
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("lookalike-*.whl")
    return made


def test_it_has_all_that_is_served_and_nothing_else(root: Path, wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    page = {f"app/page/{path.name}" for path in (root / "app" / "page").iterdir()}
    networks = {file.file for file in parse_manifest(root / "app" / "models").files.values()}
    assert page | {f"app/models/{name}" for name in networks} | {"app/models/manifest.json"} <= names
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"app", "model_export"}


def test_it_has_what_training_reads(root: Path, wheel: Path) -> None:
    rooms = [path for path in (root / "model_export").rglob("*.*") if path.suffix in (".csv", ".json", ".toml")]
    assert {path.relative_to(root).as_posix() for path in rooms} <= set(zipfile.ZipFile(wheel).namelist())
    assert (root / "model_export" / "recipes" / "from_nothing.json") in rooms


def test_installed_elsewhere_it_serves(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own; what it needs is lent by this one, so that nothing is downloaded."""
    venv.create(tmp_path / "service", with_pip=False)
    binaries = tmp_path / "service" / "bin"
    (here,) = (tmp_path / "service" / "lib").glob("python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(here)
    (here / "lent.pth").write_text(sysconfig.get_path("purelib"))
    port = Port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LOOKALIKE_", "PYTHON"))}
    settings = {"PORT": port.number, "DEVICE": "cpu", "BATCH_SIZES": "1", "DEADLINE": PATIENCE}
    chosen = {f"LOOKALIKE_{name}": str(value) for name, value in settings.items()}
    process = subprocess.Popen(
        [binaries / "python", "-m", "app", "serve"], cwd=tmp_path, env=kept | chosen, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port.number}"

    def ready() -> bool:
        assert process.poll() is None
        try:
            return httpx.get(f"{address}/health/ready", timeout=PATIENCE).is_success
        except httpx.TransportError:
            return False

    try:
        until(ready, "it was ready")
        for path in ("/", "/page/main.js", "/page/example-1.webp", "/v1/model"):
            assert httpx.get(address + path, timeout=PATIENCE).status_code == 200, path
        served = subprocess.run(
            [binaries / "python", "-c", "import app; print(app.__file__)"], cwd=tmp_path, capture_output=True, env=kept
        )
        assert str(here) in served.stdout.decode()
    finally:
        process.terminate()
        process.wait(PATIENCE)
        port.release()
