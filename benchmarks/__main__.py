"""All cases, one after the other, each in a process of its own; then the whole table.

python -m benchmarks
"""

from __future__ import annotations

import json
import subprocess
import sys

from rich.console import Console

from benchmarks.results import RESULTS, WIDTH, show

CASES = ("sample", "judge", "train", "epoch", "scale", "serve")


def main() -> None:
    failed = [case for case in CASES if subprocess.run([sys.executable, "-m", f"benchmarks.{case}"]).returncode]
    console = Console(width=WIDTH, soft_wrap=True, highlight=False)
    if RESULTS.exists():
        show(json.loads(RESULTS.read_text()), console)
    if failed:
        sys.exit(f"not measured now, as they failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
