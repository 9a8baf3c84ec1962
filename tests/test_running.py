"""How the tests themselves are run: who shares a process, who keeps a port, what is said of those that were skipped."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests import conftest, endurance, programs
from tests.patience import PATIENCE
from tests.ports import Port
from tests.scheduling import LONG, TOGETHER, Scheduling, together
from tests.skipped import told

ROOT = Path(__file__).parents[1]


def test_a_case_is_not_named_after_a_whole_file() -> None:
    short = SimpleNamespace(nodeid=f"tests/test_it.py::test_{'x' * 200}[a case]")
    conftest.pytest_collection_modifyitems([short])
    with pytest.raises(pytest.UsageError, match="a name"):
        conftest.pytest_collection_modifyitems([short, SimpleNamespace(nodeid=f"test_it[{'x' * 200}]")])


def test_a_port_is_kept_for_the_server_that_names_it() -> None:
    port = Port()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port.number))
    for _ in range(2):
        with socket.create_server(("127.0.0.1", port.number)):
            socket.create_connection(("127.0.0.1", port.number)).close()
    port.release()


def test_what_shares_something_dear_is_run_together() -> None:
    assert all((ROOT / place).exists() for place in TOGETHER)
    assert together("tests/page/test_make.py::test_a[x::y]") == together("tests/page/test_docs.py::test_b")
    assert together("tests/deploy/test_ray.py::test_a") == together("tests/app/batch/test_ray.py::test_b")
    assert together("tests/deploy/test_image.py::test_a") == "tests/deploy/test_image.py"


def test_what_takes_long_is_begun_first(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    monkeypatch.setattr(
        LoadScopeScheduling, "_assign_work_unit", lambda self, _: begun.append(self.workqueue.popitem(last=False)[0])
    )
    assert set(LONG) - set(TOGETHER.values()) <= {
        path.relative_to(ROOT).as_posix() for path in ROOT.glob("tests/**/*.py")
    }
    scheduling = Scheduling.__new__(Scheduling)
    scheduling.workqueue = OrderedDict.fromkeys(["tests/of_many_tests.py", *reversed(LONG), "tests/of_few.py"])
    while scheduling.workqueue:
        scheduling._assign_work_unit(SimpleNamespace())
    assert begun == [*LONG, "tests/of_many_tests.py", "tests/of_few.py"]


FILES = {
    "tests/page/test_one.py": "import os\n" + "".join(f"def test_{n}(): print(os.getpid())\n" for n in range(4)),
    "tests/page/test_two.py": "import os\n" + "".join(f"def test_{n}(): print(os.getpid())\n" for n in range(4)),
    "tests/test_other.py": "def test_other(): pass\ndef test_another(): pass\n",
    "tests/test_skipped.py": "import pytest\n"
    "def test_page(program): program('no-such-program')\n"
    "@pytest.mark.parametrize('number', [1, 2])\n"
    "def test_gpu(number): pytest.skip('there is no GPU')\n",
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a run of a few tests in two processes says, with this project's conftest.py."""
    folder = tmp_path_factory.mktemp("project")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for file in (ROOT / "tests").glob("*.py"):
        if not file.name.startswith("test_"):
            shutil.copy(file, folder / "tests")
    command = [sys.executable, "-m", "pytest", "-n", "2", "-rP", "-v", "-p", "no:cacheprovider"]
    command += ["-c", str(ROOT / "pyproject.toml"), f"--rootdir={folder}", "tests"]
    path = {"PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run(command, cwd=folder, env=path, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_two_processes_run_them_so(said: str) -> None:
    of_the_page = [line for line in said.splitlines() if "PASSED tests/page/" in line and line.startswith("[gw")]
    assert len(of_the_page) == 8
    assert len({line.partition("]")[0] for line in of_the_page}) == 1


def test_the_last_lines_say_what_was_skipped(said: str) -> None:
    last = said.splitlines()
    last = last[next(n for n, line in enumerate(last) if "10 passed" in line) + 1 :]
    assert last[:4] == [
        "2 skipped: there is no GPU",
        "  tests/test_skipped.py: test_gpu[1], test_gpu[2]",
        "1 skipped: there is no no-such-program on this machine",
        "  tests/test_skipped.py: test_page",
    ]
    # With an empty PATH none of the programs is there.
    every = list(dict.fromkeys(package for packages in programs.PACKAGES.values() for package in packages))
    assert last[-1] == f"  {programs.spelled(every)} && make test"


def test_what_would_have_skipped_tests_run_is_said_as_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs.os, "geteuid", lambda: 1000)
    *_, last = told([("tests/page/test_make.py::test_a", "there is no chromium")], ["chromium", "curl"])
    assert last == (
        "  sudo apt-get update -qq && sudo apt-get install -qq --yes --no-install-recommends chromium curl && make test"
    )
    assert list(told([], ["chromium"])) == []
    assert not any("apt-get" in line for line in told([("a::b", "there is no GPU")], []))


@pytest.mark.parametrize(("user", "sudo", "installed"), [(0, None, True), (1000, 0, True), (1000, 1, False)])
def test_programs_are_installed_where_that_needs_no_password(
    user: int, sudo: int | None, installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        ran.append(command)
        return subprocess.CompletedProcess(command, sudo or 0 if command[:2] == ["sudo", "-n"] else 0)

    monkeypatch.setattr(programs.os, "geteuid", lambda: user)
    monkeypatch.setattr(programs.shutil, "which", lambda name, **_: name if name in ("apt-get", "sudo") else None)
    monkeypatch.setattr(programs.subprocess, "run", run)
    programs.main()
    apt = [command for command in ran if "apt-get" in command]
    assert ([command[-5:] for command in apt][1:] == [programs.missing()[-5:]]) is installed
    assert all(command[0] == ("sudo" if user else "apt-get") for command in apt)
    assert bool(apt) is installed


def test_a_package_that_is_nowhere_does_not_keep_the_others_away(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], **_: object) -> SimpleNamespace:
        ran.append(command)
        return SimpleNamespace(returncode=int("here-only" in command))

    monkeypatch.setattr(programs, "missing", lambda: ["here-only", "everywhere"])
    monkeypatch.setattr(programs, "may_install", lambda: True)
    monkeypatch.setattr(programs.subprocess, "run", run)
    programs.main()
    assert [command[-1] for command in ran[-2:]] == ["here-only", "everywhere"]
    assert capfd.readouterr().err == "not installed: here-only\n"


def test_endurance_counts_the_runs_that_passed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    statuses = iter([0, 1, 0])
    monkeypatch.setattr(endurance, "run", lambda arguments: (next(statuses), " ".join(arguments)))
    assert endurance.main(3, ["-x"]) == 1
    assert "2 of 3 runs passed" in capfd.readouterr().out
