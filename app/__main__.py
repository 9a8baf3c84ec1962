"""The command line: `python -m app serve`, `augment` and others."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any, NoReturn

from pydantic import ValidationError

from app import __version__, keys, settings
from app.audit.cohort import add_command as add_cohort
from app.audit.command import add_command as add_report
from app.batch.command import add_command as add_augment
from app.errors import CannotStart, KeysInvalid
from app.ops.detect import add_command as add_detect
from app.ops.doctor import doctor
from app.ops.listen import explained, listening
from app.runtime.manifest import read_manifest
from app.settings import Settings
from app.telemetry import logs
from app.telemetry.metrics import SHARED
from app.telemetry.shared import metrics_folder
from app.telemetry.terminal import printable, refuse

INTERFACE = ("host", "port", "workers")
"""Settings that `serve` takes as options too."""

PIPE_CLOSED, FAILED = 141, 2
"""Exit statuses: nobody reads on, as of a program that SIGPIPE ends; it cannot be done, on a full disk for one."""


class Parser(argparse.ArgumentParser):
    """A parser that quotes arguments without letting them command the terminal."""

    def error(self, message: str) -> NoReturn:
        """End with a usage message."""
        super().error(printable(message))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    try:
        try:
            chosen = vars(_parser().parse_args(arguments))
            del chosen["command"]
            run: Callable[..., int] = chosen.pop("run")
            return run(**chosen)
        finally:
            sys.stdout.flush()
    except OSError as error:
        # What is left goes nowhere, or Python would complain of it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # nobody reads on, `| head` for one
            return PIPE_CLOSED
        if sys.flags.dev_mode:
            raise
        reason = error.strerror or str(error)
        return _refuse(f"{error.filename}: {reason}" if error.filename else reason)


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = Parser(prog="lookalike", description="Synthetic look-alikes of a face.")
    parser.add_argument("--version", action="version", version=f"lookalike {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    for command in (serve, doctor, show_settings, show_openapi, show_reference):
        name = command.__name__.removeprefix("show_")
        about = (command.__doc__ or "").partition(".")[0]
        added = commands.add_parser(name, help=about[:1].lower() + about[1:], description=about + ".")
        added.set_defaults(run=command)
        if command is serve:
            for option in INTERFACE:
                field = Settings.model_fields[option]
                meaning = (field.description or "").replace("`", "")
                added.add_argument(f"--{option}", metavar=option.upper(), help=f"{meaning} ({field.default})")
        elif command in (doctor, show_settings):
            _add_json(added)
    key = commands.add_parser("key", help="make an API key", description="Make an API key, and the line to store.")
    key.add_argument("name", metavar="NAME", help="what logs and rate limits call its owner")
    key.set_defaults(run=make_key)
    _add_json(key)
    add_augment(commands)
    add_detect(commands)
    add_report(commands)
    add_cohort(commands)
    return parser


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", dest="as_json", help="print JSON, for programs")


def serve(**options: str | None) -> int:
    """Serve over HTTP, as the options and the LOOKALIKE_ variables say."""
    # The web framework takes a third of the time that a command needs to begin, and the others do without.
    from app.http import server
    from app.main import check

    given = {name: value for name, value in options.items() if value is not None}
    # Where there are several processes, each reads its settings anew.
    os.environ |= {f"{settings.PREFIX}{name.upper()}": value for name, value in given.items()}
    try:
        chosen = Settings()
        read_manifest(chosen.models)
        check(chosen)
        listener = listening(chosen.host, chosen.port)
    except ValidationError as error:
        return _refuse(*(_as_option(sentence, given) for sentence in settings.sentences(error)))
    except CannotStart as error:
        return _refuse(str(error))
    logs.configure(chosen.log_level)
    with listener, ExitStack() as stack:
        if chosen.workers > 1:
            os.environ.setdefault(SHARED, str(stack.enter_context(metrics_folder())))
        try:
            return server.serve("app.main:serving", chosen, listener)
        except OSError as error:
            if error.filename:  # it is about a file, and not about the address
                raise
            return _refuse(explained(chosen.host, chosen.port, error))


def _as_option(sentence: str, given: Iterable[str]) -> str:
    """A sentence about a variable as one about the option that set it."""
    variable, colon, rest = sentence.partition(": ")
    name = variable.removeprefix(settings.PREFIX).lower()
    return f"--{name}{colon}{rest}" if name in given else sentence


def show_settings(as_json: bool) -> int:
    """Print every setting as a Markdown table."""
    print(json.dumps(settings.rows_of_settings(), indent=1, default=str) if as_json else settings.table())
    return 0


def show_openapi() -> int:
    """Print the OpenAPI description of the service, to make clients from."""
    print(json.dumps(_described(), indent=1, ensure_ascii=False))
    return 0


def show_reference() -> int:
    """Print the API reference in Markdown."""
    from app.http import reference

    print(reference.markdown(_described()), end="")
    return 0


def _described() -> dict[str, Any]:
    from app.main import create_app

    # The defaults, not the environment: a description does not depend on who printed it.
    return create_app(Settings.model_construct()).openapi()


def make_key(name: str, as_json: bool) -> int:
    """Make an API key."""
    try:
        key, line = keys.make_key(name)
    except KeysInvalid as error:
        return _refuse(str(error))
    if as_json:
        print(json.dumps({"name": name, "key": key, "line": line}))
        return 0
    print(f"{key}\n{line}")
    print("The first line is the key: hand it over, it is stored nowhere.", file=sys.stderr)
    print("The second is for LOOKALIKE_KEYS, or a line of LOOKALIKE_KEYS_FILE.", file=sys.stderr)
    return 0


def _refuse(*sentences: str) -> int:
    refuse(*sentences)
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
