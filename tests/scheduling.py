"""Which tests run in the same process where several run them (`pytest -n 3`), and what is begun first.

Tests of one file share its fixtures, so they stay together, as with `--dist loadscope`. Files that share something dear
for a whole session, a cluster or a browser with a service, stay together as well. pytest-xdist has `--dist loadgroup`
and a mark for that, but up to 3.8 it writes the group into `item._nodeid`, which pytest 9.2 no longer reads: every test
of a group then goes wherever there is room.

What takes long is begun first, so that no process is alone with it in the end.
"""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

TOGETHER = {
    "tests/app/batch/test_ray.py": "the Ray cluster",
    "tests/deploy/test_ray.py": "the Ray cluster",
    "tests/page": "the browser",
}
"""Files, or folders of files, and what they share."""

LONG = (
    "the browser",
    "tests/docs/test_documents.py",
    "the Ray cluster",
    "tests/torture/test_faults.py",
    "tests/app/test_serving.py",
    "tests/model_export/training/test_trainer.py",
    "tests/model_export/evaluation/test_command.py",
    "tests/model_export/exporting/test_export.py",
    "tests/benchmarks/test_gpu.py",
)
"""What takes longest, of all that has been measured; the others follow by the number of their tests."""


def together(name: str) -> str:
    """What all tests have in common that the same process runs.

    Args:
        name: of a test, as pytest has it.
    """
    file = name.partition("::")[0]
    return TOGETHER.get(file) or TOGETHER.get(file.rpartition("/")[0]) or file


class Scheduling(LoadScopeScheduling):
    """Sends tests that belong together to the same process, the longest first."""

    def _split_scope(self, nodeid: str) -> str:
        return together(nodeid)

    def _assign_work_unit(self, node: WorkerController) -> None:
        if left := [group for group in LONG if group in self.workqueue]:
            self.workqueue.move_to_end(left[0], last=False)
        super()._assign_work_unit(node)
