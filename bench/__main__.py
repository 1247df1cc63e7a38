"""Measure a real service over loopback, beside our own simulator: `python -m bench --help`.

Each phase is bounded in requests and runs against processes that this command
starts and stops. Requests and notifications are made and signed before a phase
begins; nothing outside 127.0.0.1 is called.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

from bench.phases import Phase, run_phases
from bench.processes import service

FIGURES = ("req/s", "p50 ms", "p99 ms", "cpu us", "errors")


def main() -> int:
    """Run every version, print a table, write JSON if asked."""
    wish = parser().parse_args()
    found = {}
    for version in wish.versions.split(","):
        with (
            tempfile.TemporaryDirectory(prefix="minitill-bench-") as folder,
            service(Path(folder), version) as till,
        ):
            phases = asyncio.run(run_phases(till, wish.requests, wish.concurrency))
            found[version] = [phase.figures() for phase in phases]
            show(version, phases, till.rss_mib())
    if wish.json:
        about = {"machine": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version()}
        text = json.dumps(
            {"about": about, "requests": wish.requests, "concurrency": wish.concurrency, **found}, indent=1
        )
        Path(wish.json).write_text(text + "\n", encoding="utf-8")
    return 1 if any(phase["errors"] for phases in found.values() for phase in phases) else 0


def parser() -> argparse.ArgumentParser:
    """What can be chosen."""
    made = argparse.ArgumentParser(
        prog="python -m bench", description="req/s, latency and CPU of each call, on SQLite"
    )
    made.add_argument("--versions", default="v2,v3", help="of WeChat Pay; default: v2,v3")
    made.add_argument("--requests", type=int, default=1000, help="of each phase; default: 1000")
    made.add_argument("--concurrency", type=int, default=32, help="connections; default: 32")
    made.add_argument("--json", help="a file for the figures")
    return made


def show(version: str, phases: list[Phase], rss_mib: int) -> None:
    """The table of one version; CPU is that of the service's process for each request."""
    print(f"\n{version}, SQLite, synchronous=FULL, resident {rss_mib} MiB")
    print(f"{'phase':20}" + "".join(f"{name:>10}" for name in FIGURES))
    for phase in phases:
        figures = phase.figures()
        print(f"{phase.name:20}" + "".join(f"{figures[name]:>10}" for name in FIGURES))


if __name__ == "__main__":
    sys.exit(main())
