"""Every address as OpenAPI describes it, and as it does not: schemathesis makes the requests and judges the answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.patience import PATIENCE
from tests.server import Server
from tests.torture.conftest import Record

HERE = Path(__file__).parent

# A photograph is valid by its schema whatever its bytes are, and refused where they are none. Of what a server may fail
# with, only what is documented of a busy one is taken: on a slow machine a search can be past its deadline.
SETTINGS = """
[checks]
positive_data_acceptance.enabled = false
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "503", "504"]
"""

SECONDS = PATIENCE
"""How long a request may take, on a machine that does other things as well."""


def test_every_answer_is_as_documented(
    server: Server, tmp_path: Path, amount: Callable[[int, int], int], record: Record
) -> None:
    (tmp_path / "schemathesis.toml").write_text(SETTINGS)
    report = tmp_path / "report.json"
    program = str(Path(sys.executable).with_name("schemathesis"))
    options = ["--continue-on-failure", "--no-color", "--warnings=off", "--suppress-health-check=all"]
    options += [
        f"--request-timeout={SECONDS}",
        "--report=json",
        f"--report-json-path={report}",
        f"--max-examples={amount(1, 500)}",
    ]
    if amount(1, 0):
        options += ["--phases=examples,fuzzing,stateful", "--seed=1"]
    environment = os.environ | {"PYTHONPATH": str(HERE), "SCHEMATHESIS_HOOKS": "schema_hooks"}
    run = subprocess.run(
        [program, "run", f"{server.address}/openapi.json", *options],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=amount(2 * PATIENCE, 3600),
    )
    assert run.returncode == 0, run.stdout[-8000:]
    told = json.loads(report.read_text())
    cases = told["test_cases"]["generated"]
    assert told["complete"]
    assert cases >= amount(20, 10_000)
    assert server.ready() == 200
    record("schemathesis over the whole OpenAPI, stateful too", f"{cases:,} requests", "0 answers not as documented")
