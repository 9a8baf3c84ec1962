"""Short by default, as a part of every run; `make torture` sets TORTURE=long, and prints what was tried and lost."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from tests.server import Server

LONG = os.environ.get("TORTURE") == "long"
LEDGER = pytest.StashKey[list[tuple[str, str, str]]]()

Record = Callable[[str, object, object], None]


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEDGER] = []
    config.addinivalue_line("markers", "long_only: for `make torture`; left out of a short run")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = [item for item in items if LONG or not item.get_closest_marker("long_only")]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash[LEDGER]
    if rows and LONG:
        terminalreporter.section(f"tried and lost, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
        for row in [("what was tried", "how often", "what came of it"), ("---",) * 3, *rows]:
            terminalreporter.line(f"| {' | '.join(row)} |")


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Keeps a line for the table: what was tried, how often, what came of it."""

    def keep(what: str, often: object, came: object) -> None:
        request.config.stash[LEDGER].append((what, str(often), str(came)))

    return keep


@pytest.fixture(scope="session")
def amount() -> Callable[[int, int], int]:
    """Chooses between how much is tried in a short run and in a long one."""
    return lambda short, long: long if LONG else short


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One that many tests share, and that none may stop."""
    server = Server(fork=True)
    yield server.until_ready()
    server.stop()
