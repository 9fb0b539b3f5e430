"""What does it take of the driver to end a stage of so many blocks: to see that all is there, find strays, and commit?

    python -m benchmarks.blocks --questions N

Lays down N judged questions as Ray leaves them, in blocks of 256 with a checkpoint each, and ends the stage without Ray; prints
the peak of this process's memory before and after, the processor's seconds, and the size of the marker.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.results import peak_memory
from know_thyself.compute import tables
from know_thyself.experiment import MARKER, Experiment, StageFolder
from know_thyself.stages.examining import EXAMINED

BLOCK = 256


def lay_down(folder: StageFolder, questions: int) -> None:
    """Write the parts and their checkpoints."""
    (folder.path / tables.CHECKPOINTS).mkdir(parents=True)
    for number, first in enumerate(range(0, questions, BLOCK)):
        ids = [f"{i:016x}" for i in range(first, min(first + BLOCK, questions))]
        read = {"trials": [None] * len(ids), "probabilities": [[0.3, 0.7]] * len(ids), "mass": [0.9] * len(ids)}
        table, block = pa.table({"id": ids, **read}, schema=EXAMINED), f"part-{'0' * 32}-{number:06}"
        pq.write_table(table, folder.path / f"{block}-0.parquet")
        pq.write_table(table.select(["id"]), folder.path / tables.CHECKPOINTS / f"{block}.parquet")


def main() -> None:
    """Lay down, end, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=10_000)
    questions = parser.parse_args().questions
    with tempfile.TemporaryDirectory() as scratch:
        folder = Experiment(Path(scratch), attempt=1).stage("examine", {})
        lay_down(folder, questions)
        before, began = peak_memory(), time.process_time()
        assert tables._is_complete(folder, questions)
        tables._set_aside_strays(folder)
        found = time.process_time()
        folder.commit_table(num_in=questions, num_dropped={}, began=time.monotonic())
        marker = (folder.path / MARKER).stat().st_size
        told = f"{questions:,} questions: at most {before >> 20} MiB before, {peak_memory() >> 20} at the end;"
        spent = f"{found - began:.1f} s of processor to see and sort, {time.process_time() - found:.1f} s to commit;"
        print(told, spent, f"marker {marker / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
