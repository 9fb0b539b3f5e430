"""What does a table stage cost before its first row, and what of that is Ray Data's reader of Parquet?

    python -m benchmarks.table_stage

Copies a table of 600 rows through `run_table_stage` three times, with the second reader, which Ray Data takes by itself, and
with the first, for which we ask, each in a process of its own; prints the seconds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa

SECOND, ROWS, TIMES = "RAY_DATA_USE_DATASOURCE_V2", 600, 3


class Copy:
    """A worker that hands on what it gets."""

    def __call__(self, batch: pa.Table) -> pa.Table:
        return batch


def measure(root: Path) -> list[float]:
    """Seconds of each of the stages, in a session of their own."""
    from know_thyself.compute.session import ray_session
    from know_thyself.compute.tables import Workers, run_table_stage, write_part
    from know_thyself.experiment import Experiment

    experiment = Experiment(root, attempt=1)
    experiment.logs.mkdir(parents=True)
    source = experiment.stage("source", {})
    write_part(source, pa.table({"id": [str(i) for i in range(ROWS)]}))
    workers = Workers(worker=Copy, arguments={}, least=1, most=1, batch_size=64, num_cpus=1)
    seconds = []
    with ray_session("local", experiment.logs):
        for number in range(TIMES):
            began = time.monotonic()
            run_table_stage(experiment.stage("copy", {"number": number}), source, workers, num_in=ROWS, block_rows=256)
            seconds.append(time.monotonic() - began)
    return seconds


def main() -> None:
    for reader, is_second in (("second", "1"), ("first", "0")):
        command = [sys.executable, "-m", "benchmarks.table_stage", "measure"]
        finished = subprocess.run(command, env={**os.environ, SECOND: is_second}, capture_output=True, text=True, check=True)
        print(f"the {reader} reader: {finished.stdout.strip()}")


if __name__ == "__main__":
    if sys.argv[1:] == ["measure"]:
        with tempfile.TemporaryDirectory() as scratch:
            print(", ".join(f"{seconds:.1f} s" for seconds in measure(Path(scratch))))
    else:
        main()
