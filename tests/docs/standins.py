"""What the guides put the service beside, as far as they speak to it: the documented addresses, fields and answers.

Frigate: docs.frigate.video/integrations/api (0.16). CompreFace: docs/Rest-API-description.md of its repository. Double
Take: api/src/routes of its repository. Home Assistant: its integrations rest, command_line and shell_command.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import threading
import uuid
from pathlib import Path
from typing import Any

import httpx
import uvicorn
import yaml
from fastapi import FastAPI, File, Header, HTTPException, Response, UploadFile
from jinja2 import Environment, StrictUndefined
from PIL import Image

from tests.patience import PATIENCE, until

HOSTS = ("frigate.lan:5000", "compreface.lan:8000", "double-take.lan:3000")
KEY = "00000000-0000-0000-0000-000000000002"


def application(portrait: bytes) -> FastAPI:
    """Frigate, CompreFace and Double Take; no two of them have an address in common."""
    app = FastAPI()
    app.state.enrolled = enrolled = {}

    def keep(name: str, *files: UploadFile) -> None:
        for file in files:
            Image.open(io.BytesIO(file.file.read())).verify()
            enrolled.setdefault(name, []).append(file.filename)

    @app.post("/api/faces/{name}/create")
    def create(name: str) -> dict[str, Any]:
        enrolled.setdefault(name, [])
        return {"success": False, "message": "Successfully created face folder."}

    @app.post("/api/faces/recognize")
    def recognize_in_frigate(file: UploadFile) -> dict[str, Any]:
        side = max(Image.open(io.BytesIO(file.file.read())).size)
        # Whoever is enrolled was photographed; a look-alike is a small drawing, and a little less like her.
        return {"success": True, "score": 0.99 if side > 256 else 0.85, "face_name": next(iter(enrolled))}

    @app.post("/api/faces/{name}/register")
    def register(name: str, file: UploadFile) -> dict[str, Any]:
        if name not in enrolled:
            raise HTTPException(404)
        keep(name, file)
        return {"success": True, "message": "Successfully registered face."}

    @app.get("/api/events/{event}/snapshot.jpg")
    def snapshot(event: str, crop: int = 0) -> Response:
        return Response(portrait, media_type="image/jpeg")

    def admit(x_api_key: str) -> None:
        if x_api_key != KEY:
            raise HTTPException(401)

    @app.post("/api/v1/recognition/faces", status_code=201)
    def add_example(subject: str, file: UploadFile, x_api_key: str = Header()) -> dict[str, Any]:
        admit(x_api_key)
        keep(subject, file)
        return {"image_id": str(uuid.uuid4()), "subject": subject}

    @app.post("/api/v1/recognition/recognize")
    def recognize_in_compreface(file: UploadFile, limit: int = 0, x_api_key: str = Header()) -> dict[str, Any]:
        admit(x_api_key)
        width, height = Image.open(io.BytesIO(file.file.read())).size
        box = {"probability": 0.99, "x_min": 0, "y_min": 0, "x_max": width, "y_max": height}
        return {"result": [{"box": box, "subjects": [{"subject": next(iter(enrolled)), "similarity": 0.97}]}]}

    @app.post("/api/train/add/{name}")
    def train(name: str, files: list[UploadFile] = File(alias="files[]")) -> dict[str, str]:  # noqa: B008
        keep(name, *files)
        return {"message": f"training queued for {name}"}

    return app


class StandIns:
    """The stand-ins on a port of this machine."""

    def __init__(self, portrait: bytes) -> None:
        self.app = application(portrait)
        self._server = uvicorn.Server(uvicorn.Config(self.app, port=0, log_config=None))
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        until(lambda: self._server.started, "the stand-ins listened")
        self.address = f"127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    @property
    def enrolled(self) -> dict[str, list[str]]:
        """Names, and the files that came for each."""
        return dict(self.app.state.enrolled)

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join()


class HomeAssistant:
    """Does at once what `configuration.yaml` tells Home Assistant to do now and then.

    Args:
        config, media: what stands for its folders /config and /media.

    Attributes:
        states: what its sensors show, by their names.
        commands: its shell commands, by their names.
        sensors: those that run a command, by their names.
    """

    def __init__(self, config: Path, media: Path) -> None:
        self._config, self._media = config, media
        self.commands: dict[str, str] = {}
        self.sensors: dict[str, dict[str, Any]] = {}
        self._templates = Environment(undefined=StrictUndefined, autoescape=False)
        self.states: dict[str, str] = {}

    def load(self, text: str) -> None:
        """Run every command and read every sensor of a piece of configuration.

        Raises:
            AssertionError: a command failed, an answer was no success, or an automation names what there is not.
        """
        content = yaml.safe_load(text)
        commands = content.get("shell_command", {})
        self.commands |= commands
        for command in commands.values():
            self._run(command)
        for kind in ("sensor", "binary_sensor"):
            for sensor in content.get(kind, []):
                assert sensor["platform"] == "rest"
                answer = httpx.get(sensor["resource"], timeout=PATIENCE)
                assert answer.status_code == 200, sensor["resource"]
                self._show(sensor, answer.text)
        for entry in content.get("command_line", []):
            self.sensors[entry["sensor"]["name"]] = entry["sensor"]
            self.update(entry["sensor"]["name"])
        for automation in content.get("automation", []):
            assert automation["triggers"]
            for action in automation["actions"]:
                if action["action"] == "camera.snapshot":  # which may write there, or for all to see into /config/www
                    assert action["data"]["filename"].startswith("/media/")
                kind, _, name = action["action"].partition(".")
                assert kind != "shell_command" or name in self.commands

    def update(self, name: str) -> None:
        """Have a sensor run its command."""
        self._show(self.sensors[name], self._run(self.sensors[name]["command"]))

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command as Home Assistant does, in its folders."""
        here = re.sub("/(config|media)/", lambda folder: f"{getattr(self, '_' + folder[1])}/", command)
        return subprocess.run(here, shell=True, capture_output=True, text=True, timeout=PATIENCE, check=False)

    def _run(self, command: str) -> str:
        done = self.run(command)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        return done.stdout

    def _show(self, sensor: dict[str, Any], value: str) -> None:
        template = self._templates.from_string(sensor["value_template"])
        self.states[sensor["name"]] = template.render(value=value, value_json=json.loads(value))
