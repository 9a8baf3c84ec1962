"""The command line: `python -m model_export prepare | train | evaluate | export | detail | showcase | retrain`."""

from __future__ import annotations

import argparse
import importlib
import sys

from pydantic import ValidationError

from app.errors import LookalikeError

COMMANDS = {
    "prepare": "photographs -> aligned, filtered, de-duplicated, split faces",
    "train": "prepared faces -> weights",
    "evaluate": "weights -> figures and sheets on held-out faces",
    "export": "weights -> ONNX files and their manifest",
    "detail": "photographs and ONNX files -> one more of these, which draws faces at twice their side",
    "showcase": "ONNX files -> the faces that the page and the README show",
    "retrain": "photographs -> a model to be served: all of the above in turn",
}
"""Sub-command -> what it does."""

MODULES = {
    "prepare": "preparing.command",
    "train": "training.command",
    "evaluate": "evaluation.command",
    "export": "exporting.command",
    "detail": "detail.command",
    "showcase": "exporting.showcase",
    "retrain": "retrain",
}
"""Where each is; the module offers `add_arguments(parser)` and `run(args) -> int`."""


def main(argv: list[str] | None = None) -> int:
    """Run one sub-command; returns its exit status, 2 where it cannot do what it is told.

    What a person can mend, a file that is not there or settings that cannot be, is said in a line. `python -X dev`
    shows where it came up.
    """
    words = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="python -m model_export", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    chosen = next((word for word in words if not word.startswith("-")), None)
    for name, text in COMMANDS.items():
        command = commands.add_parser(
            name, help=text, description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        # Only the chosen command is imported, so `prepare` needs no PyTorch.
        if name == chosen:
            module = importlib.import_module(f"model_export.{MODULES[name]}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    args = parser.parse_args(words)
    try:
        status: int = args.run(args)
    except (LookalikeError, ValueError, OSError, FloatingPointError) as error:
        if sys.flags.dev_mode:
            raise
        print(f"{args.command}: {_line(error)}", file=sys.stderr)
        return 2
    return status


def _line(error: Exception) -> str:
    """What it says; of settings that cannot be, the first of them."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))


if __name__ == "__main__":
    raise SystemExit(main())
