"""The command line: `python -m app serve`, `augment` and others."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from pydantic import ValidationError

from app import __version__, keys, settings
from app.batch.command import add_command as add_augment
from app.errors import KeysInvalid, ModelsInvalid
from app.http import reference, server
from app.main import create_app
from app.ops.doctor import doctor
from app.runtime.manifest import read_manifest
from app.settings import Settings
from app.telemetry import logs
from app.telemetry.metrics import SHARED
from app.telemetry.shared import metrics_folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="lookalike", description="Synthetic look-alikes of a face.")
    parser.add_argument("--version", action="version", version=f"lookalike {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    for command in (serve, doctor, show_settings, show_openapi, show_reference):
        name = command.__name__.removeprefix("show_")
        about = (command.__doc__ or "").partition(".")[0]
        commands.add_parser(name, help=about[:1].lower() + about[1:], description=about + ".").set_defaults(run=command)
    key = commands.add_parser("key", help="make an API key", description="Make an API key, and the line to store.")
    key.add_argument("name", metavar="NAME", help="what logs and rate limits call its owner")
    key.set_defaults(run=make_key)
    add_augment(commands)
    chosen = vars(parser.parse_args(arguments))
    del chosen["command"]
    run: Callable[..., int] = chosen.pop("run")
    return run(**chosen)


def serve() -> int:
    """Serve over HTTP, as the LOOKALIKE_ variables say."""
    try:
        chosen = Settings()
        read_manifest(chosen.models)
    except ValidationError as error:
        return _refuse(*settings.sentences(error))
    except ModelsInvalid as error:
        return _refuse(str(error))
    logs.configure(chosen.log_level)
    with ExitStack() as stack:
        if chosen.workers > 1:
            os.environ.setdefault(SHARED, str(stack.enter_context(metrics_folder())))
        return server.serve("app.main:serving", chosen)


def show_settings() -> int:
    """Print every setting as a Markdown table."""
    print(settings.table())
    return 0


def show_openapi() -> int:
    """Print the OpenAPI description of the service, to make clients from."""
    # The defaults, not the environment: a description does not depend on who printed it.
    print(json.dumps(create_app(Settings.model_construct()).openapi(), indent=1, ensure_ascii=False))
    return 0


def show_reference() -> int:
    """Print the API reference in Markdown."""
    print(reference.markdown(create_app(Settings.model_construct()).openapi()), end="")
    return 0


def make_key(name: str) -> int:
    """Make an API key."""
    try:
        key, line = keys.make_key(name)
    except KeysInvalid as error:
        return _refuse(str(error))
    print(f"{key}\n{line}")
    print("The first line is the key: hand it over, it is stored nowhere.", file=sys.stderr)
    print("The second is for LOOKALIKE_KEYS, or a line of LOOKALIKE_KEYS_FILE.", file=sys.stderr)
    return 0


def _refuse(*sentences: str) -> int:
    for sentence in sentences:
        print(f"lookalike: {sentence}.", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
