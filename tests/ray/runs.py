"""Start a job in a process of its own, as a user would, and read what it left."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.conftest import PATIENCE

ROOT = Path(__file__).parents[2]
EXAMINED_UP_TO_TEACHING = 3
"""How often a study of one epoch and one round asks: the untrained judge, the trained one, and what was taught."""
FAKE = "know_thyself.testing:FakeEngine"


def wait_until(reached: Callable[[], bool], told: str, process: subprocess.Popen[str] | None = None) -> None:
    """Wait until `reached`, `PATIENCE` at most, while `process` runs; `told` is what a test says that waited in vain."""
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert process is None or process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, told
        time.sleep(0.02)


def heed_interrupts() -> None:
    """In a process about to start: SIGINT ends it, also where the tests themselves run in the background and ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _who_print_to(logs: Iterable[Path]) -> Iterator[int]:
    """The processes whose standard output is one of `logs`."""
    names = {str(log) for log in logs}
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and str((process / "fd" / "1").readlink()) in names:
                yield int(process.name)
        except OSError:
            continue  # it ended meanwhile, or is another user's


OWN_GRADER = """
def grade(reply, answers):
    return answers[0] if reply.startswith("value ") else None
"""


def write_own_grader(folder: Path) -> str:
    """A user's grader, in a file in `folder`, that takes for right whatever the fake engine does; what --grader calls it."""
    (folder / "own_grader.py").write_text(OWN_GRADER)
    return "own_grader:grade"


class Run:
    """One way to run a job on the fake engine: its settings, where its experiment is, and the folder to start it in."""

    def __init__(
        self, root: Path, model: Path, questions: Path, *flags: str, job: str = "judgment", folder: Path = ROOT
    ) -> None:
        self.root, self.job, self.folder = root, job, folder
        self.flags = [
            *("--name", "run", "--model", str(model), "--dataset", str(questions), "--experiments-root", str(root)),
            *("--engine.backend", FAKE, "--engine.device", "cpu", "--data.least", "30", "--train.learning-rate", "1e-3"),
            *("--engine.block-rows", "32", "--engine.batch-size", "16", "--no-evidence.baselines", *flags),
        ]

    def like(self, root: Path) -> Run:
        """The same run with its experiment below `root`."""
        other = copy.copy(self)
        other.root, other.flags = root, [str(root) if flag == str(self.root) else flag for flag in self.flags]
        return other

    @property
    def path(self) -> Path:
        """The experiment's folder."""
        return self.root / "run"

    def start(self, **environment: str) -> subprocess.Popen[str]:
        """The job as a process that leads a session of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", f"jobs.{self.job}", *self.flags],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=heed_interrupts,
        )

    def finish(self, **environment: str) -> str:
        """Run the job to its end; what it printed. It must succeed."""
        process = self.start(**environment)
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, output
        return output

    def kill_when(self, reached: Callable[[], bool], **environment: str) -> None:
        """Start the job and send its driver SIGKILL as soon as `reached`; Ray's own processes follow it by themselves."""
        process = self.start(**environment)
        try:
            wait_until(reached, "the point to kill at was never reached", process)
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=60)
        # The training worker outlives its driver by a moment, and takes steps in it.
        wait_until(lambda: self.training_worker() is None, "the training worker outlived its driver")

    def finish_without_worker(self, reached: Callable[[], bool], rank: int = 0) -> str:
        """Run the job to its end, its training worker `rank` killed as soon as `reached`; what it printed. It must succeed."""
        process = self.start()
        wait_until(reached, "the point to kill at was never reached", process)
        worker = self.training_worker(rank)
        assert worker is not None, "no process prints to the training log"
        os.kill(worker, signal.SIGKILL)
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, output
        return output

    def training_logs(self, rank: int = 0) -> list[Path]:
        """What the training worker `rank` of each attempt printed, whatever it taught, the last attempt's last."""
        return sorted(self.path.glob(f"logs/attempt_*/t*-epoch1-rank{rank}.log"), key=lambda log: log.stat().st_mtime_ns)

    def training_worker(self, rank: int = 0) -> int | None:
        """The process that prints to one of them; None when there is none."""
        return next(_who_print_to(self.training_logs(rank)), None)

    def engines(self) -> list[int]:
        """The processes of the engines at work."""
        return list(_who_print_to(self.path.glob("logs/attempt_*/engine-*.log")))

    def losses(self) -> list[float]:
        """The loss of each step of the training."""
        (log,) = self.path.glob("stages/train-*/progress.jsonl")
        return [json.loads(line)["loss"] for line in log.read_text().splitlines()]

    def steps_kept(self) -> int:
        """The step of the newest complete checkpoint of the training."""
        marks = self.path.glob("stages/train-*/checkpoints/step-*/_COMPLETE.json")
        return max((int(mark.parent.name.removeprefix("step-")) for mark in marks), default=0)

    def parts(self, stage: str) -> list[Path]:
        """The committed or written parts of all stages of this name."""
        return sorted(self.path.glob(f"stages/{stage}-*/part-*.parquet"))

    def is_teaching(self) -> bool:
        """Whether a worker that teaches knowledge has taken a step."""
        return any("step" in log.read_text() for log in self.path.glob("stages/teach-*/progress.jsonl"))

    def is_judging_anew(self) -> bool:
        """Whether a study of one epoch and one round has asked its taught model anything beyond the test of that round."""
        return self.committed("examine") > EXAMINED_UP_TO_TEACHING

    def study(self) -> dict[str, Any]:
        """What study.json says."""
        content: dict[str, Any] = json.loads((self.path / "study.json").read_text())
        return content

    def committed(self, stage: str) -> int:
        """How many stages of this name are complete."""
        return len(list(self.path.glob(f"stages/{stage}-*/_DONE.json")))

    def rows_committed(self, stage: str) -> int:
        """Rows of the blocks that Ray has committed to those stages."""
        blocks = self.path.glob(f"stages/{stage}-*/_checkpoint/*.parquet")
        return sum(pq.read_metadata(block).num_rows for block in blocks if not block.stem.endswith(".pending"))

    def tables(self) -> dict[str, Any]:
        """All committed content: rows by stage folder and id, files by digest, and the summary of a job that writes one."""
        summary = self.path / "summary.json"
        content: dict[str, Any] = {"summary": json.loads(summary.read_text())} if summary.exists() else {}
        for marker in sorted(self.path.glob("stages/*/_DONE.json")):
            done = json.loads(marker.read_text())
            rows = [row for part in marker.parent.glob("part-*.parquet") for row in pq.read_table(part).to_pylist()]
            content[marker.parent.name] = (done["content_digest"], sorted(rows, key=lambda row: str(row["id"])))
        return content
