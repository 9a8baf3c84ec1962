"""A Ray cluster of two nodes on this machine, whose processes and nodes can be killed."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# A proxy that hardly gets to run is not ill; after three times five seconds Ray would begin another one.
os.environ["RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S"] = "300"
os.environ["RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S"] = "300"

import psutil
from ray._common.utils import get_default_ray_temp_dir
from ray.cluster_utils import Cluster

from tests.patience import until

NODE = {"num_cpus": 2, "object_store_memory": 80 * 2**20, "include_dashboard": False}
# A node that is lost is missed after seconds, where half a minute is usual.
QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000, "health_check_failure_threshold": 4}


class TwoNodes:
    """The head, and a second node that is there again after each loss."""

    def __init__(self, folder: str) -> None:
        # The cluster's address is noted there, whatever its own folder is; a new machine does not have it.
        Path(get_default_ray_temp_dir()).mkdir(parents=True, exist_ok=True)
        head = {**NODE, "temp_dir": folder, "_system_config": QUICK}
        self._cluster = _patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
        self._second: Any = None

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def complete(self) -> None:
        """Have both nodes."""
        if self._second is None:
            self._second = _patiently(lambda: self._cluster.add_node(**NODE))

    def lose_second(self) -> None:
        """Kill everything of the second node at once."""
        self._cluster.remove_node(self._second, allow_graceful=False)
        self._second = None

    def workers(self, title: str) -> list[int]:
        """Processes of the cluster that call themselves so."""
        raylets = {
            info.process.pid for node in self._cluster.list_all_nodes() for info in node.all_processes.get("raylet", [])
        }
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):  # one that has just ended
                if process.ppid() in raylets and any(title in argument for argument in process.cmdline()):
                    found.append(process.pid)
        return found

    def close(self) -> None:
        self._cluster.shutdown()


def _patiently(start: Callable[[], Any]) -> Any:
    """Start a node; another where Ray, on a busy machine, gives one up after half a minute."""

    def attempt() -> Any:
        try:
            return start()
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
            return None

    return until(attempt, "a node was started")


@contextmanager
def two_nodes() -> Iterator[TwoNodes]:
    # Not pytest's folder: the path of a socket has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        cluster = TwoNodes(folder)
        try:
            cluster.complete()
            yield cluster
        finally:
            cluster.close()


def busiest(pids: set[int]) -> int:
    """The process that has used the CPU most."""
    return max(pids, key=lambda pid: sum(psutil.Process(pid).cpu_times()[:2]))


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
