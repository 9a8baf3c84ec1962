"""`python -m benchmarks`: the service against other servers, how its cost grows, and the tables and plots that tell it.

Everything is written to benchmarks/results/speed.json, and from there into README.md and docs/speed.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import time

from benchmarks import report, servers
from benchmarks.compare import BESIDE, CLIENTS, NOT_HAD, compare, machine, say, told
from benchmarks.growth import REPLICAS, grown

QUICK_CLIENTS = (1, BESIDE)


def main() -> int:
    """Measure, write, print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="under three minutes: one short round that no document tells"
    )
    parser.add_argument("--repeats", type=int, default=5, help="rounds that take turns (5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="least time of one measurement (2)")
    parser.add_argument("--peers", default=",".join(servers.PACKAGES), help="comma-separated; empty for none")
    parser.add_argument("--no-growth", action="store_true", help="leave out how the cost grows")
    chosen = parser.parse_args()
    peers = [name for name in chosen.peers.split(",") if name]
    for name in peers:
        say(f"{name}: {' '.join(servers.PACKAGES[name])} in {servers.PEERS / name}")
        servers.install(name)
    there = machine() | {"versions": {name: servers.release(name) for name in peers}}
    begun = time.monotonic()
    if chosen.quick:
        systems = compare(1, 1.0, peers, QUICK_CLIENTS, exported=False)
    else:
        systems = compare(chosen.repeats, chosen.seconds, peers, CLIENTS, exported=True)
    found = {
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": "make bench",
        "machine": there,
        "repeats": 1 if chosen.quick else chosen.repeats,
        "systems": told(systems),
        "not_had": NOT_HAD,
    }
    _keep(found, chosen.quick)
    if not chosen.no_growth:
        found["growth"] = grown(chosen.seconds / 4, () if chosen.quick else REPLICAS)
        found["seconds"] = round(time.monotonic() - begun)
        _keep(found, chosen.quick)
    print("\n\n".join(report.blocks(found).values()))
    return 0


def _keep(found: report.Report, quick: bool) -> None:
    """Write what there is so far, so that a run that is broken off is not lost."""
    path = report.RESULTS.with_name("quick.json") if quick else report.RESULTS
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if not quick:
        report.write(found)


if __name__ == "__main__":
    sys.exit(main())
