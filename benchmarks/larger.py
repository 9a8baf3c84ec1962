"""`python -m benchmarks.larger [--write]`: what pictures of twice the side cost beside those that are drawn anyway.

One thread, in turns, CPU time: drawing and scoring, the detail stage, marking and writing in either size. `--write`
puts the table into docs/speed.md.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from app.core.generate import CONTROL_SIZE, IDENTITY_SIZE, Generator
from app.core.models import CPU_BATCHES
from app.core.origin import Origin
from app.core.provenance import Provenance
from app.runtime.manifest import parse_manifest
from app.settings import Settings
from benchmarks.documents import filled
from benchmarks.inside import decoder

ROUNDS = 15
DOCUMENT = Path(__file__).parents[1] / "docs" / "speed.md"
BEGIN, END = "<!-- larger: begin -->\n", "<!-- larger: end -->"


def measured(rounds: int = ROUNDS) -> dict[str, list[float]]:
    """CPU-ms a picture of each part, round by round."""
    settings = Settings(device="cpu")
    manifest = parse_manifest(settings.models)
    if "detail" not in manifest.files:
        raise SystemExit(f"{settings.models}: has no detail stage; see docs/retrain.md")
    generator = Generator(settings.models, "cpu", 1, decoder(), detail=True)
    size, random, origin = CPU_BATCHES[-1], np.random.default_rng(0), Origin(settings)
    provenance = Provenance(manifest.name, manifest.version, "benchmark")
    identities = random.standard_normal((size, IDENTITY_SIZE), np.float32)
    controls = random.uniform(-1, 1, (size, CONTROL_SIZE)).astype(np.float32)
    small, _ = generator.decode(identities, controls)
    detail = generator.detail
    assert detail
    (large,) = detail(small)
    parts: dict[str, Callable[[], object]] = {
        "drawn and scored": lambda: generator.decode(identities, controls),
        "with detail": lambda: detail(small),
        "marked and written": lambda: origin.files(small, "jpeg", 95, provenance),
        "marked and written, larger": lambda: origin.files(large, "jpeg", 95, provenance),
    }
    found: dict[str, list[float]] = {name: [] for name in parts}
    for work in parts.values():
        work()
    for _ in range(rounds):
        for name, work in parts.items():
            start = time.process_time()
            work()
            found[name].append((time.process_time() - start) * 1000 / size)
    return found


def table(found: dict[str, Sequence[float]]) -> str:
    """Medians with their quartiles, and what the larger size costs as a multiple of the smaller."""
    rows = ["| a picture | CPU-ms, median | quartiles |", "| --- | --- | --- |"]
    for name, values in found.items():
        low, middle, high = statistics.quantiles(values, n=4)
        rows.append(f"| {name} | {middle:.2f} | {low:.2f}, {high:.2f} |")
    drawn, detail, written, larger = (statistics.median(values) for values in found.values())
    ratio = (drawn + detail + larger) / (drawn + written)
    return "\n".join(rows) + f"\n\nSo a picture of twice the side costs {ratio:.1f} times one as it is drawn.\n"


def main(argv: list[str] | None = None) -> None:
    """Measure, print, and write on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"put the table into {DOCUMENT.name}")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    args = parser.parse_args(argv)
    block = table(measured(args.rounds))
    print(block)
    if args.write:
        DOCUMENT.write_text(filled(DOCUMENT.read_text(encoding="utf-8"), BEGIN, END, block), encoding="utf-8")


if __name__ == "__main__":
    main()
