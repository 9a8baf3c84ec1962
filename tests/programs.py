"""Programs that some tests need and that pip does not bring: what they are, where they are, and how to have them.

python -m tests.programs   # installs with apt-get what is missing, where that can be done without a password
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = {
    "chromium": (
        "chromium-headless-shell",  # Chromium without its windows: a page costs it a third of the CPU
        "chromium",
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
    ),
    "imagemagick": ("magick", "convert-im6", "convert-im6.q16", "convert-im7"),
}
"""Where a program goes by several names. ImageMagick's plain `convert` may be anybody's."""

PACKAGES = {
    "chromium": ("chromium-headless-shell",),
    "curl": ("curl", "ca-certificates"),
    "exiftool": ("libimage-exiftool-perl",),
    "imagemagick": ("imagemagick",),
    "prometheus": ("prometheus",),
    "promtool": ("prometheus",),
}
"""Debian's packages that have them. What is not here comes from PyPI, where there is one for this machine."""


def find(name: str) -> str | None:
    """A program's path: beside Python, whether or not the environment is active, or where the system has programs."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return next((found for each in NAMES.get(name, (name,)) if (found := shutil.which(each, path=places))), None)


def missing() -> list[str]:
    """Debian's packages that this machine lacks, each once."""
    return list(dict.fromkeys(package for name in PACKAGES if not find(name) for package in PACKAGES[name]))


def commands(packages: list[str]) -> list[list[str]]:
    """What installs packages, for whoever may."""
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    return [
        [*sudo, "apt-get", "update", "-qq"],
        [*sudo, "apt-get", "install", "-qq", "--yes", "--no-install-recommends", *packages],
    ]


def spelled(packages: list[str]) -> str:
    """The same as a line for a shell."""
    return " && ".join(map(shlex.join, commands(packages)))


def may_install() -> bool:
    """Whether that needs neither another system nor a password."""
    if not shutil.which("apt-get"):
        return False
    if os.geteuid() == 0:
        return True
    return bool(shutil.which("sudo")) and subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0


def main() -> None:
    """Install what is missing. A failure is no error: tests that lack a program say so, and are skipped."""
    packages = missing()
    if not packages or not may_install():
        return
    print(f"tests need programs that are not here; running: {spelled(packages)}", flush=True)
    update, install = commands(packages)
    if _failed(update) or _failed(install):
        # One package that a system does not have keeps apt-get from all the others.
        for package in packages:
            if _failed(commands([package])[1]):
                print(f"not installed: {package}", file=sys.stderr)


def _failed(command: list[str]) -> bool:
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    ended = subprocess.run(command, env=quiet, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    return ended.returncode != 0


if __name__ == "__main__":
    main()
