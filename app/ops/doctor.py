"""`python -m app doctor`: what is in force on this machine, what is wrong, and what to do about it."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import distributions
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import onnxruntime as ort
from limits.storage import storage_from_string
from pydantic import ValidationError

from app import __version__, settings
from app.core.cohort import check_cohort, read_cohort
from app.core.credentials import SOON
from app.core.generate import CONTROL_SIZE, IDENTITY_SIZE
from app.core.models import CPU_BATCHES, GPU_BATCHES, Engine
from app.core.origin import Origin
from app.errors import CannotRun, CohortInvalid, CredentialsInvalid, ModelsInvalid, ProviderUnavailable
from app.keys import Keyring
from app.ops.places import check_jobs
from app.runtime.manifest import DETAIL_SCALE, Manifest, parse_manifest, verify_file
from app.runtime.sessions import cores
from app.settings import PREFIX, Settings
from app.telemetry.metrics import Metrics
from app.telemetry.terminal import printable

LIMITS = (
    "max_bytes",
    "max_pixels",
    "min_eye_distance",
    "max_requests",
    "queue_images",
    "deadline",
    "drain_seconds",
    "search_rounds",
    "rate_limit",
    "workers",
    "threads",
    "image_threads",
)
GPUS = ("/dev/nvidiactl", "/dev/dxg")
SPARE_FILES = 64
"""Descriptors that are open besides connections: networks, logs, libraries."""
TIMED = 8
"""Images that the speed is taken from."""
FAR = 8.0
"""Mean difference in levels of 255 from which on a larger picture, halved, is another one."""


@dataclass
class Report:
    """What was found: lines to show by section, what is wrong and what is worth knowing, each with a hint."""

    sections: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    wrong: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)

    def show(self, section: str, name: str, value: object) -> None:
        """Add a line to a section."""
        self.sections.setdefault(section, []).append((name, str(value)))

    def text(self) -> str:
        """Everything, for people."""
        return "\n".join(map(printable, self._lines()))

    def data(self) -> dict[str, Any]:
        """Everything, for programs."""
        findings = {"wrong": self.wrong, "notes": self.notes}
        told = {name: [{"what": what, "hint": hint} for what, hint in found] for name, found in findings.items()}
        return {section: dict(lines) for section, lines in self.sections.items()} | told

    def _lines(self) -> Iterator[str]:
        width = max(len(name) for lines in self.sections.values() for name, _ in lines)
        for section, lines in self.sections.items():
            yield section
            for name, value in lines:
                yield f"  {name:{width}}  {value}"
            yield ""
        for title, findings in (("worth knowing", self.notes), ("wrong", self.wrong)):
            if findings:
                yield title
                for what, hint in findings:
                    yield f"  - {what}"
                    yield f"    hint: {hint}"
                yield ""
        yield f"{len(self.wrong)} wrong" if self.wrong else "all is well"


def doctor(as_json: bool) -> int:
    """Say what provider, models and limits are in force, and what is wrong."""
    report = examine()
    print(json.dumps(report.data(), indent=1) if as_json else report.text())
    return 1 if report.wrong else 0


def examine() -> Report:
    """Look at everything that can be looked at, however much of it is wrong."""
    report = Report()
    report.show("versions", "lookalike", __version__)
    report.show("versions", "python", platform.python_version())
    report.show("versions", "onnxruntime", ort.__version__)
    _wheels(report)
    chosen = _settings(report)
    manifest = _models(report, chosen)
    _provider(report, chosen, manifest)
    _limits(report, chosen)
    _access(report, chosen)
    _files(report, chosen, manifest)
    origin(report, chosen)
    return report


def _wheels(report: Report) -> None:
    names = sorted({name for found in distributions() if (name := (found.metadata["Name"] or "").lower())})
    ours = _runtime_wheel(sys.platform, platform.machine())
    if runtimes := [name for name in names if name.startswith("onnxruntime") and name != ours]:
        report.wrong.append(
            (
                f"{', '.join(runtimes)} is installed besides {ours}, and they overwrite each other's files",
                f"pip uninstall -y {' '.join(runtimes)} && pip install --force-reinstall {ours}",
            )
        )


def _runtime_wheel(system: str, machine: str) -> str:
    """Which build of ONNX Runtime is for a machine, as pyproject.toml has it: the one with CUDA where there is one."""
    return "onnxruntime-gpu" if (system, machine) in {("linux", "x86_64"), ("win32", "AMD64")} else "onnxruntime"


def _settings(report: Report) -> Settings:
    """The settings, or the defaults where they are wrong."""
    try:
        return Settings()
    except ValidationError as error:
        hint = "`python -m app settings` prints every setting with its meaning; below, the defaults are shown"
        report.wrong += [(sentence, hint) for sentence in settings.sentences(error)]
    defaults = Settings.model_construct()
    models = os.environ.get(f"{PREFIX}MODELS")
    return defaults.model_copy(update={"models": Path(models)}) if models else defaults


def _models(report: Report, chosen: Settings) -> Manifest | None:
    """The manifest, where everything it names is as it says."""
    report.show("models", "directory", chosen.models)
    again = "Copy or export the models again, or let LOOKALIKE_MODELS name another directory"
    try:
        manifest = parse_manifest(chosen.models)
    except ModelsInvalid as error:
        report.wrong.append((str(error), again))
        return None
    report.show("models", "model", f"{manifest.name} {manifest.version}, of {manifest.created}")
    sound = True
    for role, network in sorted(manifest.files.items()):
        path = chosen.models / network.file
        try:
            verify_file(path, network.sha256)
            report.show("models", role, f"{network.file}, {path.stat().st_size / 1e6:.1f} MB, checksum ok")
        except ModelsInvalid as error:
            sound = False
            report.show("models", role, f"{network.file}, WRONG")
            report.wrong.append((str(error), again))
    thresholds = manifest.thresholds
    for name, value in thresholds.model_dump(by_alias=True).items():
        report.show("thresholds", name, f"{value:.3f}")
    report.show("thresholds", "look-alike band", "{:.3f} .. {:.3f}".format(*thresholds.lookalike_band))
    if not thresholds.fmr_1e_2 <= thresholds.fmr_1e_3 <= thresholds.fmr_1e_4:
        report.wrong.append(
            ("A lower false match rate has a lower threshold", "Evaluate the model again: `python -m model_export`")
        )
    if not manifest.metrics:
        report.notes.append(
            ("The model says nothing about its measured quality", "Evaluate it: `python -m model_export evaluate`")
        )
    return manifest if sound else None


def _provider(report: Report, chosen: Settings, manifest: Manifest | None) -> None:
    gpu = any(Path(device).exists() for device in GPUS)
    usable = cores()
    report.show("provider", "asked for", chosen.device)
    report.show("provider", "this build has", ", ".join(ort.get_available_providers()))
    report.show("provider", "GPU", "there is one" if gpu else "none found")
    report.show("provider", "CPU cores", usable)
    if chosen.threads > usable:
        report.notes.append((f"{chosen.threads} threads share {usable} cores", "Set LOOKALIKE_THREADS to 0"))
    if manifest is None:
        report.show("provider", "taken", "unknown: the models are not loaded")
        return
    start = time.perf_counter()
    try:
        engine = Engine(chosen, Metrics())
    except ProviderUnavailable as error:
        hint = "Install the extra `cuda` and check `nvidia-smi`, or set LOOKALIKE_DEVICE to auto or cpu"
        report.show("provider", "taken", "none")
        report.wrong.append((str(error), hint))
        return
    except ModelsInvalid as error:
        report.show("provider", "taken", "none")
        report.wrong.append((str(error), "Export the models again with this version of `model_export`"))
        return
    report.show("provider", "taken", engine.device)
    report.show("provider", "precision", engine.precision)
    report.show("provider", "ready after", f"{time.perf_counter() - start:.1f} s")
    sizes = chosen.batch_sizes or (GPU_BATCHES if engine.device == "cuda" else CPU_BATCHES)
    report.show("provider", "batch sizes", ",".join(map(str, sizes)))
    _draw(report, engine)
    if gpu and engine.device == "cpu" and chosen.device == "auto":
        hint = "Install the extra `cuda` and check `nvidia-smi`, or set LOOKALIKE_DEVICE to cpu"
        report.wrong.append(("There is a GPU, but CUDA does not load, so the CPU is taken", hint))
    if engine.device == "cuda" and chosen.workers > 1:
        report.notes.append((f"{chosen.workers} workers share the GPU, each with its own models", "One is faster"))


def _draw(report: Report, engine: Engine) -> None:
    """Draw faces from fixed identities: they must be pictures, and how long they take is worth knowing."""
    identities = np.random.Generator(np.random.PCG64(0)).normal(size=(TIMED, IDENTITY_SIZE)).astype(np.float32)
    start = time.perf_counter()
    images, embeddings = engine.generator.decode(identities, np.zeros((TIMED, CONTROL_SIZE), np.float32))
    seconds = (time.perf_counter() - start) / TIMED
    report.show("provider", "decode and score", f"{seconds * 1000:.1f} ms an image")
    if not np.isfinite(embeddings).all() or images.reshape(TIMED, -1).std(axis=1).min() < 1:
        report.wrong.append(("The decoder draws nothing", "Train or export the models again"))
    if engine.generator.detail is None:
        return
    start = time.perf_counter()
    (larger,) = engine.generator.detail(images)
    seconds = (time.perf_counter() - start) / TIMED
    report.show("provider", "detail", f"{seconds * 1000:.1f} ms an image")
    side = engine.sizes.image
    halved = larger.reshape(TIMED, side, DETAIL_SCALE, side, DETAIL_SCALE, 3).astype(np.float32).mean((2, 4))
    if np.abs(halved - images).mean() > FAR:
        report.wrong.append(("The detail stage draws other faces than the decoder", "Train it again for this decoder"))


def _limits(report: Report, chosen: Settings) -> None:
    for name in LIMITS:
        value = getattr(chosen, name)
        report.show("limits", PREFIX + name.upper(), value if value != "" else "none")
    if sys.platform == "win32":
        return
    import resource  # not everywhere

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    unbounded = files == resource.RLIM_INFINITY
    report.show("limits", "open files", "unlimited" if unbounded else files)
    if not unbounded and files < chosen.max_requests + SPARE_FILES:
        report.wrong.append(
            (
                f"{files} files may be open, too few for {chosen.max_requests} requests at once",
                f"`ulimit -n {2 * (chosen.max_requests + SPARE_FILES)}`, or a lower LOOKALIKE_MAX_REQUESTS",
            )
        )


def _access(report: Report, chosen: Settings) -> None:
    if chosen.needs_key:
        names = sorted(Keyring(chosen.keys, chosen.keys_file).names)
        report.show("access", "keys", ", ".join(names))
        report.show("access", "may reload models", ", ".join(chosen.admin_keys) or "every key")
        report.show("access", "needs a key besides", ", ".join(chosen.protect) or "nothing")
    else:
        report.show("access", "keys", "none: everybody may call the API, nobody may reload models")
        if not _local(chosen.host):
            report.notes.append(
                (
                    f"Everybody who can reach {chosen.host}:{chosen.port} may call the service",
                    "`python -m app key NAME` makes a key for LOOKALIKE_KEYS",
                )
            )
    if chosen.rate_limit and not chosen.rate_store.startswith("memory:"):
        place = urlsplit(chosen.rate_store).hostname  # the rest of it may hold a password
        reached = _reaches(chosen.rate_store)
        report.show("access", "rates counted at", f"{place}, {'reached' if reached else 'NOT reached'}")
        if not reached:
            hint = "Check LOOKALIKE_RATE_STORE; until then each process counts on its own"
            report.wrong.append((f"The store of rate limits at {place} does not answer", hint))


def _files(report: Report, chosen: Settings, manifest: Manifest | None) -> None:
    """What the service would not start without, once it is named."""
    if chosen.cohort:
        report.show("files", "cohort", chosen.cohort)
        try:
            if manifest:
                check_cohort(chosen.cohort, chosen.models)
            else:
                read_cohort(chosen.cohort)
        except CohortInvalid as error:
            report.wrong.append((str(error), "Correct LOOKALIKE_COHORT, or leave it out: no score is normalised then"))
    if chosen.jobs:
        report.show("files", "jobs", chosen.jobs)
        try:
            check_jobs(chosen.jobs)
        except CannotRun as error:
            report.wrong.append((str(error), "Correct LOOKALIKE_JOBS, or leave it out: there are no jobs then"))


def origin(report: Report, chosen: Settings) -> None:
    """The layers that say where pictures come from."""
    layers = {"metadata": chosen.metadata, "mark in the pixels": chosen.watermark}
    for name, on in layers.items():
        report.show("origin", name, "on" if on else "OFF")
        if not on:
            hint = "Without it, whoever runs the service sees to it that its pictures are marked (AI Act, article 50)"
            report.notes.append((f"Pictures leave without the layer: {name}", hint))
    report.show("origin", "installation", chosen.installation or "0: says nothing")
    report.show("origin", "key of the mark", chosen.watermark_key_file or "the open build's, known to everybody")
    try:
        signer = Origin(chosen).signer
    except CredentialsInvalid as error:
        report.show("origin", "content credentials", "CANNOT be signed")
        report.wrong.append((str(error), "Correct the LOOKALIKE_C2PA_ or LOOKALIKE_WATERMARK_KEY_FILE variables"))
        return
    if signer is None:
        report.show("origin", "content credentials", "none: no certificate is given")
        return
    pair, left = signer.pair, signer.pair.until - datetime.datetime.now(datetime.UTC)
    report.show("origin", "content credentials", f"signed as {pair.subject}, {pair.algorithm}")
    report.show("origin", "certificate runs out", f"{pair.until:%Y-%m-%d}, in {left.days} days")
    if left < SOON:
        report.notes.append((f"The certificate of content credentials runs out in {left.days} days", "Renew it"))


def _local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _reaches(store: str) -> bool:
    try:
        return bool(storage_from_string(store, socket_timeout=2, socket_connect_timeout=2).check())
    except Exception:  # noqa: BLE001 - whatever the client of the store raises means the same
        return False
