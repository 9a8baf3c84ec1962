"""The processes that serve, and the one that watches over them."""

from __future__ import annotations

import multiprocessing
import threading
import time
from types import SimpleNamespace

from app.http.server import answers
from tests.patience import PATIENCE


def test_a_process_that_is_killed_while_it_is_asked_is_not_waited_for() -> None:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(3 * PATIENCE,))
    process.start()
    worker = SimpleNamespace(parent_conn=ours, process=process)
    theirs.send(b"pong")
    assert answers(worker, PATIENCE)
    assert not answers(worker, 0.01), "it is alive, but does not answer"
    begun = time.monotonic()
    killer = threading.Timer(0.1, process.kill)
    killer.start()
    assert not answers(worker, 2 * PATIENCE)
    assert time.monotonic() - begun < PATIENCE
    killer.join()
    process.join()
