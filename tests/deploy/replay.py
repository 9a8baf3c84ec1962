"""Build the CPU image's steps without a container engine, and run what they made as a container would be run.

    python tests/deploy/replay.py [--base DIR]

Every stage starts from a clean Debian that debootstrap made; every COPY and RUN of the stages that `cpu` needs is
carried out in it, RUN with chroot in namespaces of its own. What comes out is started as user 10001 on a read-only root
without capabilities and without a network, as process 1; it answers its health check, gets a photograph, and is stopped
by SIGTERM. Needs Linux, root, debootstrap and the registries.

It differs from a real build in one place: `python:3.13-slim-trixie` is stood in for by Debian trixie with Debian's own
Python 3.13, since that image is made of the same Debian.
"""

from __future__ import annotations

import argparse
import fnmatch
import io
import json
import os
import re
import shlex
import shutil
import string
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dockerfile_parse import DockerfileParser

CONTEXT = Path(__file__).resolve().parents[2]
RELEASES = {"python:3.13-slim-trixie": "trixie"}
"""Images of Docker Hub, and the release of Debian that each is made of."""

NETWORK = ("/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt")
"""How this machine reaches the registries: what a container engine would give a build as well."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
PACKAGES = "ca-certificates,python3,python3-pip,python3-venv"
START = 120
"""Seconds that the service may take to start."""


@dataclass
class Stage:
    """A stage as it is built: its root directory, and what later instructions and the container inherit."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    directory: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    check: list[str] = field(default_factory=list)

    def inside(self, path: str) -> Path:
        """A path of the stage as a path of this machine."""
        return self.root / os.path.normpath(os.path.join(self.directory, path)).lstrip("/")


class Replay:
    """Carries out the instructions of one target of the Dockerfile."""

    def __init__(self, work: Path, base: Path) -> None:
        self.work = work
        self.base = base
        self.stages: dict[str, Stage] = {}
        self.ignore = (CONTEXT / ".dockerignore").read_text().splitlines()

    def build(self, target: str) -> Stage:
        """Build a target and the stages it copies from."""
        current = None
        instructions = stages()
        wanted = needed(instructions, target)
        for name, steps in instructions.items():
            if name not in wanted:
                continue
            current = self.stages[name] = self.begin(name, steps[0])
            for step in steps[1:]:
                started = time.monotonic()
                self.step(current, step["instruction"], step["value"])
                seconds = time.monotonic() - started
                if step["instruction"] in ("RUN", "COPY"):
                    print(f"  {seconds:6.1f} s  {step['instruction']} {shortened(step['value'])}", flush=True)
        assert current is not None
        return self.stages[target]

    def begin(self, name: str, step: dict[str, str]) -> Stage:
        """A stage's clean root."""
        image = step["value"].split()[0]
        base = self.base / RELEASES[image]
        if not (base / "usr/bin/python3").exists():
            print(f"debootstrap {RELEASES[image]} for {image}", flush=True)
            run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", RELEASES[image], str(base)])
        root = self.work / name
        print(f"{image} AS {name}", flush=True)
        run(["cp", "--archive", "--reflink=auto", str(base), str(root)])
        for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
            marker.unlink()  # the official image has a Python of its own, which nobody else manages
        return Stage(root)

    def step(self, stage: Stage, instruction: str, value: str) -> None:
        """Carry out one instruction."""
        match instruction:
            case "RUN":
                self.shell(stage, value)
            case "COPY":
                self.copy(stage, value)
            case "ENV":
                for pair in shlex.split(value):
                    key, _, text = pair.partition("=")
                    stage.environment[key] = string.Template(text).safe_substitute(stage.environment)
            case "WORKDIR":
                stage.directory = os.path.join(stage.directory, value)
                stage.inside("").mkdir(parents=True, exist_ok=True)
            case "USER":
                stage.user = value
            case "ENTRYPOINT":
                stage.entrypoint = json.loads(value)
            case "CMD":
                stage.command = json.loads(value)
            case "HEALTHCHECK":
                stage.check = json.loads(value.partition("CMD ")[2])
            case "LABEL" | "EXPOSE" | "STOPSIGNAL":
                pass
            case _:
                raise SystemExit(f"{instruction} is not one that this replays")

    def shell(self, stage: Stage, value: str) -> None:
        """RUN: a command of the shell, with the registries as this machine reaches them."""
        script = [
            "mount --bind /dev dev",
            "mount -t proc proc proc",
            *(f"touch .{file} && mount --bind {file} .{file}" for file in NETWORK),
        ]
        for option in re.findall(r"--mount=(\S+)", value):
            target = dict(part.split("=", 1) for part in option.split(","))["target"].lstrip("/")
            cache = self.base / "cache" / target
            cache.mkdir(parents=True, exist_ok=True)
            script.append(f"mkdir -p {target} && mount --bind {cache} {target}")
        command = re.sub(r"--mount=\S+\s*", "", value)
        inner = shlex.join(["/bin/sh", "-c", f"cd {stage.directory} && {command}"])
        script.append(f"exec env -i {variables(stage)} chroot . {inner}")
        run(["unshare", "--mount", "--pid", "--fork", "sh", "-ec", "\n".join(script)], cwd=stage.root)

    def copy(self, stage: Stage, value: str) -> None:
        """COPY: files from the context, less what .dockerignore names, or from another stage."""
        *words, target = value.split()
        origin = next((word.partition("=")[2] for word in words if word.startswith("--from=")), None)
        source = self.stages[origin].root if origin else CONTEXT
        sources = [word for word in words if not word.startswith("--")]
        for name in sources:
            path = source / name.lstrip("/")
            into = stage.inside(target)
            if path.is_dir():
                for file in sorted(path.rglob("*")):
                    if origin or not self.ignored(file.relative_to(CONTEXT)):
                        transfer(file, into / file.relative_to(path))
            else:
                assert origin or not self.ignored(path.relative_to(CONTEXT)), f"{name} is not in the context"
                transfer(path, into / path.name if target.endswith("/") or len(sources) > 1 else into)

    def ignored(self, path: Path) -> bool:
        """Whether .dockerignore keeps a path of the context from the builder; its last line that matches decides."""
        ignored = False
        for line in self.ignore:
            pattern = line.strip().removeprefix("!").rstrip("/")
            if not pattern or pattern.startswith("#"):
                continue
            whole = [str(part) for part in (path, *path.parents)]
            if pattern.startswith("**/"):
                hit = any(fnmatch.fnmatch(Path(part).name, pattern[3:]) for part in whole)
            else:
                hit = any(fnmatch.fnmatch(part, pattern) for part in whole)
            if hit:
                ignored = not line.startswith("!")
        return ignored


def stages() -> dict[str, list[dict[str, str]]]:
    """The instructions of the Dockerfile by stage, each list beginning with its FROM."""
    with (CONTEXT / "Dockerfile").open("rb") as file:
        structure = DockerfileParser(fileobj=io.BytesIO(file.read())).structure
    found: dict[str, list[dict[str, str]]] = {}
    for step in structure:
        if step["instruction"] == "FROM":
            found[step["value"].split()[-1]] = steps = []
        if step["instruction"] != "COMMENT":
            steps.append(step)
    return found


def needed(instructions: dict[str, list[dict[str, str]]], target: str) -> set[str]:
    """The stages that a target copies from, itself included."""
    origins = re.findall(r"--from=(\S+)", " ".join(step["value"] for step in instructions[target]))
    return {target}.union(*(needed(instructions, origin) for origin in origins))


def transfer(source: Path, target: Path) -> None:
    """Copy one file, link or directory with its mode and times; root owns it, as COPY has it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        target.symlink_to(os.readlink(source))
    elif source.is_dir():
        target.mkdir(exist_ok=True)
        shutil.copystat(source, target)
    else:
        shutil.copy2(source, target)


def variables(stage: Stage) -> str:
    """A stage's environment as words for `env`."""
    return shlex.join(f"{key}={value}" for key, value in stage.environment.items())


def shortened(text: str) -> str:
    """One line of a command, of bounded length."""
    text = " ".join(text.split())
    return text if len(text) <= 100 else text[:97] + "..."


def run(command: list[str], cwd: Path | None = None) -> None:
    """Run a command; where it fails, say what it said."""
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{shortened(shlex.join(command))}: status {done.returncode}\n{done.stdout[-4000:]}")


@contextmanager
def container(stage: Stage) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a stage's command as a hardened container is run; gives the process that waits for it, and its process id."""
    uid, gid = stage.user.split(":")
    command = ["/bin/sh", "-c", f'cd {stage.directory} && exec "$@"', "sh", *stage.entrypoint, *stage.command]
    script = [
        "ip link set lo up",
        "mount --bind . .",
        "cd $PWD",
        "mount --bind /dev dev",
        "mount -t proc proc proc",
        "mount -o remount,bind,ro .",
        f"exec env -i {variables(stage)} chroot . setpriv --reuid {uid} --regid {gid} --clear-groups "
        f"--no-new-privs --bounding-set=-all --inh-caps=-all {shlex.join(command)}",
    ]
    flags = ["--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child"]
    process = subprocess.Popen(["unshare", *flags, "sh", "-ec", "\n".join(script)], cwd=stage.root)
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        end = time.monotonic() + 10
        while not (child := children.read_text().split()):
            assert time.monotonic() < end, "it did not start"
            time.sleep(0.05)
        yield process, int(child[0])
    finally:
        process.kill()
        process.wait()


def within(child: int, *command: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command of this machine in the container's network."""
    return subprocess.run(["nsenter", f"--target={child}", "--net", *command], capture_output=True, check=False)


def checked(stage: Stage, child: int) -> int:
    """The status of the health check, run in the container as its engine runs it."""
    uid, gid = stage.user.split(":")
    enter = ["nsenter", f"--target={child}", "--net", "--pid", "--mount", f"--root=/proc/{child}/root", "--wd=/"]
    setpriv = ["setpriv", "--reuid", uid, "--regid", gid, "--clear-groups", "--no-new-privs"]
    environment = ["env", "-i", *(f"{key}={value}" for key, value in stage.environment.items())]
    return subprocess.run([*enter, *environment, *setpriv, *stage.check], capture_output=True, check=False).returncode


def exercise(stage: Stage) -> None:
    """Start what was built, look at how it runs, send it a photograph, stop it."""
    port = stage.environment["LOOKALIKE_PORT"]
    with container(stage) as (process, child):
        started = time.monotonic()
        while checked(stage, child):
            assert process.poll() is None, "it ended"
            assert time.monotonic() - started < START, "it did not become healthy"
            time.sleep(0.25)
        print(f"healthy after {time.monotonic() - started:.1f} s", flush=True)
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{child}/status").read_text().splitlines() if ":\t" in line
        )
        mounts = Path(f"/proc/{child}/mountinfo").read_text().splitlines()
        root = next(line.split() for line in mounts if line.split()[4] == "/")
        assert root[5].split(",")[0] == "ro", root
        assert status["Uid"].split() == [stage.user.split(":")[0]] * 4, status["Uid"]
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0, status
        assert status["NoNewPrivs"] == "1"
        assert status["NSpid"].split()[-1] == "1", status["NSpid"]
        print("user 10001, process 1, no capabilities, no new privileges, root read-only, no network", flush=True)
        answer = within(child, sys.executable, __file__, "--post", f"http://127.0.0.1:{port}")
        assert answer.returncode == 0, answer.stderr.decode()
        print(answer.stdout.decode(), end="", flush=True)
        started = time.monotonic()
        os.kill(child, 15)
        assert process.wait(30) == 0, process.returncode
        print(f"SIGTERM: exit status 0 after {time.monotonic() - started:.1f} s", flush=True)


def post(address: str) -> None:
    """Send a photograph, from inside the container's network."""
    from PIL import Image
    from skimage import data

    photo = io.BytesIO()
    Image.fromarray(data.astronaut()).save(photo, "JPEG")
    request = urllib.request.Request(
        f"{address}/v1/variants?count=8&seed=1", photo.getvalue(), {"Content-Type": "image/jpeg"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        answer = json.load(response)
    similarities = [variant["similarity"] for variant in answer["variants"]]
    assert len(similarities) == 8
    with urllib.request.urlopen(f"{address}/v1/model", timeout=10) as response:
        model = json.load(response)
    print(f"a photograph: {len(similarities)} variants of {model['name']} {model['version']}, similarity ", end="")
    print(f"{min(similarities):.2f} to {max(similarities):.2f}")


def size(path: Path) -> str:
    """What a directory holds, in MB."""
    return f"{sum(file.lstat().st_size for file in path.rglob('*') if not file.is_dir()) / 1e6:.0f} MB"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--base", type=Path, help="keep the clean Debian and pip's cache here, for the next time")
    parser.add_argument("--post", metavar="ADDRESS", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.post:
        return post(chosen.post)
    with tempfile.TemporaryDirectory(prefix="lookalike-image-") as folder:
        work = Path(folder)
        stage = Replay(work, (chosen.base or work / "base").resolve()).build("cpu")
        print(f"on top of the base image: libraries {size(stage.inside('/opt/lookalike'))}, ", end="")
        print(
            f"models {size(stage.inside('app/models'))}, service {size(stage.inside('app'))} with the models",
            flush=True,
        )
        exercise(stage)
    return None


if __name__ == "__main__":
    main()
