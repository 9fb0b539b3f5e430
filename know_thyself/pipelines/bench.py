"""What all stages of one experiment share: settings, folder, base model, questions; and each stage called on it, resumable."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from know_thyself.artefacts import adapter_rank
from know_thyself.compute.room import Device, Room, node_cores
from know_thyself.compute.session import LOCAL, cluster_of, ray_session
from know_thyself.compute.submission import keeping_record
from know_thyself.compute.tables import progress_of, write_part
from know_thyself.config import RunConfig, TrainConfig
from know_thyself.cost import write_used
from know_thyself.data.splits import Questions
from know_thyself.digests import digest_files, digest_json, digest_list
from know_thyself.engine.pool import Pool
from know_thyself.engine.protocol import Decoding, EngineSpec
from know_thyself.errors import StageError
from know_thyself.evaluation.evidence import Records, Trials
from know_thyself.experiment import MARKER, Experiment, StageFolder, storing, write_experiment
from know_thyself.experiment.place import address, push, read_text
from know_thyself.learning.zero import read_override
from know_thyself.models import resolve_model
from know_thyself.pipelines.guards import check_may_run, check_phase
from know_thyself.pipelines.inputs import Inputs, rule_of
from know_thyself.progress import Position, Spoken, watch
from know_thyself.stages import examining, grading, merging, training, wondering
from know_thyself.types import JudgmentExample, ModelRef, Question, Split, StageDone

Row = dict[str, Any]
Part = TypeVar("Part", bound=str)
"""What questions are told apart by: their split, or their pool in a study."""


@dataclass(frozen=True, slots=True)
class Result:
    """A committed stage."""

    folder: StageFolder
    done: StageDone

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.path.name

    def trials(self, ids: Sequence[str]) -> Trials:
        """The trials of each question of `ids` that has any here."""
        rows = self.folder.read(["id", "trials"], ids).to_pylist()
        return {row["id"]: row["trials"] for row in rows if row["trials"]}


def decoding_of(config: RunConfig) -> Decoding:
    """How the answerer of `config` answers."""
    return Decoding(**config.sampling.model_dump())


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One experiment at work."""

    config: RunConfig
    experiment: Experiment
    inputs: Inputs
    console: Console
    room: Room
    device: Device
    mode: Literal["swap", "adapter"]
    phase: int | None = None
    """Of a study, the phase whose stages are called."""

    @property
    def base(self) -> ModelRef:
        """The frozen base model."""
        return self.inputs.base

    @property
    def questions(self) -> Questions:
        """The questions in their splits."""
        return self.inputs.questions

    @property
    def answers_change(self) -> bool:
        """Whether training changes the answers that judgments are scored against; what logs say stays said."""
        return self.config.tuning == "full" and not self.questions.logs

    @property
    def cores(self) -> int:
        """CPU cores that an engine or a training worker on a CPU may use."""
        return max(1, node_cores() // max(self.config.engine.actors_max, self.config.train.workers_max))

    def _finish(self, folder: StageFolder) -> Result | None:
        done = folder.done()
        if done is None:
            check_phase(self.config, folder, self.phase)
            return None
        self.console.print(f"{folder.path.name}: already done")
        return Result(folder, done)

    def check_workers(self) -> None:
        """Return once the cluster has room for the training that the settings ask for. Raises `ConfigError`."""
        self.room.for_training(self.config.train, self.device)

    def put_questions(self) -> Result:
        """Commit the questions with their splits, and say how many contexts were cut."""
        if cut := self.inputs.context_cut:
            told = ", ".join(f"{count} in {split}" for split, count in cut.items())
            self.console.print(f"contexts cut to fit {self.config.engine.max_model_len} tokens: {told}")
        return self.put("questions", self.questions.questions, self.questions.dropped)

    def put(self, stage: str, questions: Sequence[Question], dropped: Mapping[str, int] | None = None) -> Result:
        """Commit `questions` as the table of `stage`; `dropped` counts those left out of it, by reason."""
        settings = {"questions": digest_list(question.to_row() for question in questions)}
        return self._put(stage, settings, lambda: Question.to_columns(questions), dropped or {})

    def _put(
        self,
        stage: str,
        settings: Mapping[str, Any],
        columns: Callable[[], Mapping[str, Sequence[Any]]],
        dropped: Mapping[str, int],
    ) -> Result:
        folder = self.experiment.stage(stage, settings)
        if result := self._finish(folder):
            return result
        began = time.monotonic()
        table = pa.table(columns())
        write_part(folder, table)
        num_in = table.num_rows + sum(dropped.values())
        return Result(folder, folder.commit_table(num_in=num_in, num_dropped=dict(dropped), began=began))

    def examine(
        self,
        title: str,
        questions: Result,
        *,
        answerer: ModelRef | None,
        judge: ModelRef | None,
        epoch: int | None = None,
    ) -> Result:
        """Sample trials with `answerer` and judgments with `judge` for all questions, in one start of the engines.

        `epoch` is the epoch that this belongs to, if any. Raises `ConfigError` where the settings ask for what stands alone.
        """
        config = self.config
        task = examining.Task(
            answerer=answerer,
            judge=judge,
            decoding=decoding_of(config),
            style=config.prompt_style,
            mode=config.label_mode,
            seed=config.seed,
            backend=config.engine.backend,
            max_model_len=config.engine.max_model_len,
            encoding=self.inputs.encoding,
        )
        folder = self.experiment.stage("examine", task.settings(), [questions.done])
        if result := self._finish(folder):
            return result
        check_may_run(config, folder, epoch=epoch, samples=answerer is not None)
        pool, total = self._pool(answerer, judge), questions.done.num_out
        with watch(self.console, title, "questions", progress_of(folder, total)):
            done = examining.examine(folder, questions.folder, total, task, pool, self.experiment.logs)
        return Result(folder, done)

    def wonder(self, count: int) -> Result:
        """`count` questions that the base asks itself, with its answers."""
        config = self.config
        task = wondering.Wonder(
            model=self.base,
            decoding=decoding_of(config),
            seed=config.seed,
            backend=config.engine.backend,
            max_model_len=config.engine.max_model_len,
            encoding=self.inputs.encoding,
        )
        blanks = self._put("blanks", {"count": count}, lambda: {"id": [f"wondered-{n:08}" for n in range(count)]}, {})
        folder = self.experiment.stage("wonder", task.settings(), [blanks.done])
        if result := self._finish(folder):
            return result
        with watch(self.console, "questions it asks itself", "questions", progress_of(folder, count)):
            done = wondering.wonder(folder, blanks.folder, count, task, self._pool(self.base), self.experiment.logs)
        return Result(folder, done)

    def _pool(self, *models: ModelRef | None) -> Pool:
        """The engines that ask `models`."""
        engine = self.config.engine
        return Pool(
            engine=self.engine_spec(*models),
            least=engine.actors_min,
            most=engine.actors_max,
            batch_size=engine.batch_size,
            block_rows=engine.block_rows,
        )

    def engine_spec(self, *models: ModelRef | None) -> EngineSpec:
        """What the engines of this experiment are started with, with room for the adapters of `models`."""
        engine = self.config.engine
        ranks = [adapter_rank(Path(model.adapter)) for model in models if model and model.adapter]
        return EngineSpec(
            base=self.base.name,
            device=self.device,
            mode=self.mode,
            max_model_len=engine.max_model_len,
            cache_gib=engine.cache_gib,
            gpu_memory=engine.gpu_memory,
            max_lora_rank=max(ranks, default=self.config.train.lora.r),
            cores=self.cores,
            trust_remote_code=self.config.trust_remote_code,
            prefill=self.config.chat.prefill,
        )

    def grade(self, questions: Result, examined: Result) -> Result:
        """Grade the trials of `examined`."""
        grader = self.config.grader
        folder = self.experiment.stage("grade", {"grader": grading.grader_name(grader)}, [questions.done, examined.done])
        if result := self._finish(folder):
            self._tell_faults(folder)
            return result
        total = examined.done.num_out
        with watch(self.console, "grading the answers", "questions", progress_of(folder, total)):
            done = grading.grade_trials(folder, examined.folder, questions.folder, total, grader)
        self._tell_faults(folder)
        return Result(folder, done)

    def _tell_faults(self, graded: StageFolder) -> None:
        """Say how many trials could not be graded, and why. Raises `StageError` when none could be."""
        trials, faults = grading.count_faults(graded)
        if not faults:
            return
        told = f"{faults.total()} of {trials} trials could not be graded, mostly because {faults.most_common(1)[0][0]}"
        if faults.total() == trials:
            raise StageError("grade", f"{told}: mend that, move {graded.path} away and run the same command again")
        self.console.print(told)

    def put_grades(self, questions: Result) -> Result:
        """Commit what the logs say of `questions` as grades, in the layout of graded trials."""
        logs = self.questions.logs
        folder = self.experiment.stage("grade", {"logs": digest_json(logs)}, [questions.done])
        if result := self._finish(folder):
            return result
        return Result(folder, grading.commit_logs(folder, logs))

    def collect(self, graded: Result, judged: Result) -> dict[Split, Records]:
        """The questions of each split with the labels that `graded` gives and the judgments of `judged`."""
        return self.collect_parts({split: self.questions.of(split) for split in Split}, graded, judged)

    def collect_parts(self, parts: Mapping[Part, Sequence[Question]], graded: Result, judged: Result) -> dict[Part, Records]:
        """The same for the questions of each of `parts`, whatever these are."""
        grades, judgments = graded.folder.read(["id", "correct"]), judged.folder.read(["id", "probabilities", "mass"])
        rule, mode = rule_of(self.config), self.config.label_mode
        return {part: Records(questions, grades, judgments, rule, mode) for part, questions in parts.items()}

    def left_out(self, graded: Result, judged: Result) -> dict[str, int]:
        """How many questions have no part in the results, by reason: dropped as they were read, or left out by `collect`."""
        (records,) = self.collect_parts({"all": self.questions.questions}, graded, judged).values()
        return {**self.questions.dropped, **records.left_out()}

    def train(
        self,
        title: str,
        epoch: int,
        examples: Sequence[JudgmentExample],
        *,
        evidence: Sequence[Result],
        parent: Result | None,
    ) -> Result:
        """Train one epoch on `examples`, which follow from the settings and `evidence`, going on from `parent`.

        Raises `ConfigError` where the settings ask for what stands alone.
        """
        questions = {question.id: question for question in self.questions.questions}
        taught = pa.table(
            {
                **Question.to_columns([questions[example.question_id] for example in examples]),
                "target": [example.target for example in examples],
                "weight": [example.weight for example in examples],
            }
        )
        parents = [*evidence, *([parent] if parent else [])]
        return self._learn(
            title, self._lesson(self.config.train, epoch, parent), taught, {"rule": str(rule_of(self.config))}, parents
        )

    def teach(self, title: str, config: TrainConfig, number: int, rows: Sequence[Row], parent: Result | None) -> Result:
        """Teach the base one round of `rows`, questions with the `reply` to each, by `config`, going on from `parent`."""
        lesson = dataclasses.replace(self._lesson(config, number, parent), teaches="knowledge")
        table, decided = pa.Table.from_pylist(list(rows)), {"rows": digest_list(rows)}
        return self._learn(title, lesson, table, decided, [parent] if parent else [])

    def _lesson(self, config: TrainConfig, epoch: int, parent: Result | None) -> training.Lesson:
        return training.Lesson(
            base=self.base.name,
            folder="",
            parent=str(parent.folder.path) if parent else None,
            config=config,
            tuning=self.config.tuning,
            style=self.config.prompt_style,
            mode=self.config.label_mode,
            seed=self.config.seed,
            epoch=epoch,
            device=self.device,
            cores=self.cores,
            logs=str(self.experiment.logs),
            trust_remote_code=self.config.trust_remote_code,
            prefill=self.config.chat.prefill,
            deepspeed=read_override(config),
        )

    def _learn(
        self, title: str, lesson: training.Lesson, taught: pa.Table, decided: Mapping[str, str], parents: Sequence[Result]
    ) -> Result:
        """Run `lesson` on the rows of `taught`; `decided` is what they follow from beside `parents` and its own settings."""
        settings = {**lesson.settings(self.base.digest), **decided, "encoding": self.inputs.encoding}
        stage = training.STAGES[lesson.teaches]
        folder = self.experiment.stage(stage, settings, [parent.done for parent in parents])
        if result := self._finish(folder):
            return result
        check_may_run(self.config, folder, epoch=lesson.epoch, samples=False)
        folder.path.mkdir(parents=True, exist_ok=True)
        with storing(folder.path / training.EXAMPLES):
            pq.write_table(taught, folder.path / training.EXAMPLES)
        push(folder.path, training.EXAMPLES)
        self.room.for_training(lesson.config, self.device)
        with watch(self.console, title, "steps", lambda: _training_position(folder)):
            done = training.train(folder, dataclasses.replace(lesson, folder=str(folder.path)))
        return Result(folder, done)

    def learned(self, trained: Result) -> ModelRef:
        """What `trained` made, as the engines load it: a model of its own, or the base with an adapter."""
        if self.config.tuning == "full":
            return resolve_model(str(trained.folder.path / training.MODEL), None, self.config.trust_remote_code)
        return self.adapted(trained.folder.path / training.ADAPTER)

    def adapted(self, adapter: Path) -> ModelRef:
        """The base with `adapter`, as the engines load it: beside the base, or (mode swap) merged into it."""
        if self.mode == "adapter":
            digest = digest_json([self.base.digest, _adapter_digest(adapter)])
            return ModelRef(name=self.base.name, digest=digest, adapter=str(adapter))
        return self.merged(adapter)

    def merged(self, adapter: Path) -> ModelRef:
        """The base with `adapter` merged into it, a plain model folder."""
        settings = {"base": self.base.digest, "adapter": _adapter_digest(adapter)}
        folder = self.experiment.stage("merge", settings)
        if not self._finish(folder):
            with watch(
                self.console, "merging the adapter", "models", lambda: Position(int((folder.path / MARKER).exists()), 1)
            ):
                merging.merge(folder, Path(self.base.name), adapter, self.experiment.logs, self.config.trust_remote_code)
        return ModelRef(name=str(folder.path / merging.MODEL), digest=digest_json(list(settings.values())))


def _adapter_digest(adapter: Path) -> str:
    return digest_files(adapter, ("*.json", "*.safetensors"))


def _training_position(folder: StageFolder) -> Position:
    """The last line of the training log."""
    whole = read_text(folder.path / training.PROGRESS).rpartition("\n")[0]
    if not whole:
        return Position(0, 0)
    last = json.loads(whole.splitlines()[-1])
    return Position(last["step"], last["steps"], f"loss {last['loss']:.3f}")


def engine_mode(config: RunConfig, device: str) -> Literal["swap", "adapter"]:
    """How judges reach the engines: as `config` says, or by what is fast on `device`."""
    if config.tuning == "full":
        return "swap"
    if config.engine.mode == "auto":
        return "adapter" if device == "cuda" else "swap"
    return config.engine.mode


@contextmanager
def open_bench(config: RunConfig, inputs: Inputs, console: Spoken) -> Iterator[Bench]:
    """The experiment of `config` opened for writing, on a Ray session that lasts as long as the context.

    After work that ends well, used.json says what all of it used.
    """
    with write_experiment(config, console.print) as experiment:
        console.print(f"experiment {address(experiment.path)}")
        with (
            ray_session(config.address, experiment.logs),
            keeping_record(address(experiment.path), lambda: console.last),
        ):
            room = Room(0 if cluster_of(config.address) == LOCAL else config.node_wait, console)
            device = room.for_engines(config.engine)
            mode = engine_mode(config, device)
            yield Bench(
                config=config, experiment=experiment, inputs=inputs, console=console, room=room, device=device, mode=mode
            )
        write_used(experiment, config.cost)
