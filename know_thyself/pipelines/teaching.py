"""The second phase of a study: teach the model what it does not know, in rounds, each tested, and keep the best.

Beside each fact taught stand facts that are not, in the model's own words: such as it knows, so that learning costs less of
what was there, and such as it does not, so that it stays unsure of these, which is what a judge can see; and questions that it
asks itself, which nobody has to write, and of which there are as many as one likes: but none that is taught, and none that the
study reports on as left alone. A round is worth what was learned and, on dev questions that are neither taught nor rehearsed,
what was kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from know_thyself.config import TrainConfig
from know_thyself.data.identity import near_duplicate_key
from know_thyself.data.pools import Pools
from know_thyself.errors import ConfigError
from know_thyself.labeling import label
from know_thyself.models import resolve_model
from know_thyself.pipelines.bench import Bench, Result, Row
from know_thyself.pipelines.inputs import rule_of
from know_thyself.pipelines.rounds import Collected
from know_thyself.stages.training import ADAPTER
from know_thyself.types import AbilityLabel, Finish, ModelRef, Pool, Question, Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """What is taught: facts that the model does not know; and what it answers otherwise, rehearsed in its own words.

    `rehearsed` are facts it knows, `doubted` such as it does not; `guarded` are known ones that are left alone. `replies` are
    the model's own, one of each trial, by question. `wondered` are rows of questions that it asked itself: for each of the
    `passes` of a round an equal part.
    """

    taught: tuple[Question, ...]
    rehearsed: tuple[Question, ...]
    doubted: tuple[Question, ...]
    guarded: tuple[Question, ...]
    replies: Mapping[str, Sequence[str]]
    emphasis: float
    passes: int = 1
    wondered: tuple[Row, ...] = ()

    @property
    def tested(self) -> tuple[Question, ...]:
        """The questions that are asked after each round."""
        return (*self.taught, *self.rehearsed, *self.guarded)

    def rows(self, round_number: int) -> list[Row]:
        """What a round shows: all its passes, which training shuffles into one another."""
        return [row for number in range(self.passes) for row in self._pass(number, (round_number - 1) * self.passes + number)]

    def _pass(self, number: int, seen: int) -> list[Row]:
        """Pass `number` of a round, `seen` before it in all: the accepted answer to each fact taught, a reply to each other."""
        taught = [_row(question, question.answers[0], self.emphasis) for question in self.taught]
        own = [_row(q, self._reply(q, seen), 1.0) for q in (*self.rehearsed, *self.doubted)]
        return [*taught, *own, *self.wondered[number :: self.passes]]

    def _reply(self, question: Question, seen: int) -> str:
        replies = self.replies[question.id]
        return replies[seen % len(replies)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round of teaching: accuracies (mean k/n, None of no questions) on what was taught, rehearsed and left alone."""

    number: int
    trained: Result
    learned: float | None
    rehearsed: float | None
    kept: float | None

    @property
    def worth(self) -> float:
        """What was learned and what was kept, alike."""
        known = [share for share in (self.learned, self.kept) if share is not None]
        return sum(known) / len(known) if known else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What came of teaching: the lessons, their rounds, the best of these, and the model it made, a plain folder."""

    lessons: Lessons
    rounds: tuple[Round, ...]
    best: Round
    model: ModelRef

    def facts(self) -> dict[str, Any]:
        """For study.json."""
        rounds = [
            {
                "round": r.number,
                "learned": r.learned,
                "rehearsed": r.rehearsed,
                "kept": r.kept,
            }
            for r in self.rounds
        ]
        lessons = self.lessons
        parts = {
            "taught": lessons.taught,
            "rehearsed": lessons.rehearsed,
            "doubted": lessons.doubted,
            "guarded": lessons.guarded,
            "wondered": lessons.wondered,
        }
        sizes = {name: len(part) for name, part in parts.items()}
        return {**sizes, "rounds": rounds, "best_round": self.best.number}


def abilities(bench: Bench, graded: Result) -> dict[str, AbilityLabel]:
    """The label of each question that `graded` measured, by its id."""
    grades, rule = graded.folder.read(), rule_of(bench.config)
    read = zip(grades["id"].to_pylist(), grades["correct"].to_pylist(), strict=True)
    labels = {name: label(name, correct, rule) for name, correct in read}
    return {name: found for name, found in labels.items() if found is not None}


def plan_lessons(bench: Bench, pools: Pools, collected: Collected) -> Lessons:
    """What to teach of the taught pools, and what to rehearse, by what the model answered before.

    Raises `ConfigError` when it knows all that could be taught, or none can be graded.
    """
    labels = abilities(bench, collected.graded)
    graded = [q for q in pools.taught if q.id in labels]
    if not graded:
        raise ConfigError(f"none of the {len(pools.taught)} facts that could be taught has answers that can be graded")
    taught = tuple(q for q in graded if not _known(labels, q))
    if not taught:
        raise ConfigError(
            f"the model knows all {len(graded)} facts that could be taught: give questions it cannot answer, or raise "
            f"--study.taught (now {bench.config.study.taught})"
        )
    is_taught, study = {question.id for question in taught}, bench.config.study
    others = [q for q in (*pools.questions.of(Split.TRAIN), *pools.of[Pool.TAUGHT_HELD_OUT]) if q.id not in is_taught]
    is_other, replies = {question.id for question in others}, _replies(collected)
    drawn = _drawn([q for q in others if q.id in labels and replies[q.id]], bench.config.seed)
    known, unknown = ([q for q in drawn if _known(labels, q) is wanted] for wanted in (True, False))
    return Lessons(
        taught=taught,
        rehearsed=tuple(known[: round(study.rehearsal * len(taught))]),
        doubted=tuple(unknown[: round(study.doubts * len(taught))]),
        guarded=tuple(q for q in pools.of[Pool.JUDGED_NOT_TAUGHT] if _known(labels, q)),
        replies=replies,
        emphasis=study.emphasis,
        passes=study.passes,
        wondered=_wondered(
            bench,
            study.passes * round(study.wondered * len(taught)),
            without=[q for q in pools.questions.questions if q.id not in is_other],
        ),
    )


def _wondered(bench: Bench, count: int, without: Sequence[Question]) -> tuple[Row, ...]:
    """What the model says to `count` questions that it asks itself, less those that came to nothing and those `without`."""
    if count == 0:
        return ()
    left_out = {near_duplicate_key(question.text) for question in without}
    rows = bench.wonder(count).folder.read().sort_by("id").to_pylist()
    asked = [(Question(id=row["id"], text=row["question"], answers=(row["reply"],)), row["reply"]) for row in rows]
    return tuple(
        _row(question, reply, 1.0)
        for question, reply in asked
        if question.text and reply and near_duplicate_key(question.text) not in left_out
    )


def _drawn(questions: Sequence[Question], seed: int) -> list[Question]:
    return [questions[i] for i in np.random.default_rng([seed, 4]).permutation(len(questions))]


def _known(labels: Mapping[str, AbilityLabel], question: Question) -> bool:
    found = labels.get(question.id)
    return found is not None and found.all_correct


def _replies(collected: Collected) -> dict[str, list[str]]:
    """What the model said to its end in each trial, by question: of a known fact, its own right answers."""
    assert collected.sampled is not None  # a study refuses logs
    table = collected.sampled.folder.read().select(["id", "trials"])
    return {
        row["id"]: [trial["text"].strip() for trial in row["trials"] or () if trial["finish"] == Finish.STOP]
        for row in table.to_pylist()
    }


def _row(question: Question, reply: str, weight: float) -> Row:
    return {**question.to_row(), "reply": reply, "weight": weight}


def teach(bench: Bench, lessons: Lessons, config: TrainConfig) -> Knowledge:
    """Teach `lessons` by `config`, round by round, until a round is worth no more than the best, `study.patience` times."""
    tested = bench.put("tested", lessons.tested)
    rounds: list[Round] = []
    while len(rounds) < config.epochs and not _stalled(rounds, bench.config.study.patience):
        rounds.append(_next_round(bench, lessons, config, tested, rounds))
        bench.console.print(_told(rounds[-1], lessons), highlight=False)
    best = _best_of(rounds)
    return Knowledge(lessons=lessons, rounds=tuple(rounds), best=best, model=_model_of(bench, best))


def _best_of(rounds: Sequence[Round]) -> Round:
    """The round that is worth most; the earlier of equals."""
    return max(rounds, key=lambda r: (r.worth, -r.number))


def _stalled(rounds: Sequence[Round], patience: int) -> bool:
    return bool(rounds) and len(rounds) - _best_of(rounds).number >= patience


def _next_round(bench: Bench, lessons: Lessons, config: TrainConfig, tested: Result, rounds: Sequence[Round]) -> Round:
    number = len(rounds) + 1
    own = f" and {len(lessons.wondered)} questions of its own" if lessons.wondered else ""
    others = len(lessons.rehearsed) + len(lessons.doubted)
    title = f"round {number}: teaching {len(lessons.taught)} facts, rehearsing {others}{own}"
    trained = bench.teach(title, config, number, lessons.rows(number), rounds[-1].trained if rounds else None)
    answered = bench.examine(f"round {number}: testing", tested, answerer=bench.learned(trained), judge=None)
    labels = abilities(bench, bench.grade(tested, answered))
    return Round(
        number=number,
        trained=trained,
        learned=_accuracy(labels, lessons.taught),
        rehearsed=_accuracy(labels, lessons.rehearsed),
        kept=_accuracy(labels, lessons.guarded),
    )


def _accuracy(labels: Mapping[str, AbilityLabel], questions: Sequence[Question]) -> float | None:
    found = [labels[q.id].accuracy for q in questions if q.id in labels]
    return float(np.mean(found)) if found else None


def _told(round_: Round, lessons: Lessons) -> str:
    parts = {
        f"of {len(lessons.taught)} facts taught": round_.learned,
        f"of {len(lessons.rehearsed)} rehearsed": round_.rehearsed,
        f"of {len(lessons.guarded)} known and left alone": round_.kept,
    }
    told = ", ".join(f"{share:.1%} {what}" for what, share in parts.items() if share is not None)
    return f"round {round_.number}: right answers: {told}"


def _model_of(bench: Bench, best: Round) -> ModelRef:
    """The taught model as a plain folder, whatever the tuning, named by the bytes of its files as any base is."""
    adapter = best.trained.folder.path / ADAPTER
    made = bench.merged(adapter) if adapter.is_dir() else bench.learned(best.trained)
    return resolve_model(made.name, None, bench.config.trust_remote_code)
