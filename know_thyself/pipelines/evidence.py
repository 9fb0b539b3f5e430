"""What the chosen judge is held against: ceiling, calibration, thresholds, baselines, audit; the rest of summary.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from know_thyself.compute.tables import progress_of
from know_thyself.data.scores import read_scores
from know_thyself.evaluation import findings
from know_thyself.evaluation.audit import Cost, Rival, audit, compare, run_baselines
from know_thyself.evaluation.baselines import Material, Need, Study
from know_thyself.evaluation.baselines.answers import agreement, semantic_entropy, stated_number
from know_thyself.evaluation.calibration import Fitted
from know_thyself.evaluation.evidence import Examined, Records, Trials, scores_of
from know_thyself.evaluation.metrics.scores import Floats, Scores
from know_thyself.pipelines.bench import Bench, Result
from know_thyself.progress import watch
from know_thyself.stages import probing
from know_thyself.types import LabelMode, Question, Split

LEARNED, CHOSEN, MEASURED = Split.TRAIN, Split.DEV, Split.VALIDATION
NOT_PROBED = "the untrained model was not read (evidence.probe is off)"
FROM_LOGS = "the counts come from logs: there are no answers to compare"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The chosen judge at work: what it judged, its columns and calibration, and the answers it is scored against, if any.

    `untrained` holds the judgments of the same questions before any training.
    """

    examined: Mapping[Split, Records]
    scores: Mapping[str, Scores]
    fitted: Fitted | None
    sampled: Result | None
    untrained: Mapping[Split, Records]


def gather(bench: Bench, chosen: Chosen) -> dict[str, Any]:
    """What summary.json says beside its epochs. Reads the untrained model where `evidence.probe` asks for it."""
    seed = bench.config.seed
    learned, measured = chosen.scores[Split.CALIBRATION], chosen.scores[MEASURED]
    found = findings.beside_epochs(chosen.fitted, learned, measured, seed)
    if bench.config.evidence.baselines:
        settings = bench.config.evidence
        most = {LEARNED: settings.questions, CHOSEN: settings.compared, MEASURED: settings.compared}
        asked = {split: list(islice(chosen.examined[split], number)) for split, number in most.items()}
        judge = scores_of(asked[MEASURED], bench.config.label_mode, calibration=None)
        compared = compare(judge, _rivals(bench, chosen, asked), seed=seed)
        found |= {"baselines": compared, "audit": audit(compared)}
    return found


def _rivals(bench: Bench, chosen: Chosen, asked: Mapping[Split, Sequence[Examined]]) -> dict[str, Rival]:
    """Every baseline's scores of the validation questions `asked`, those of files of scores among them."""
    settings = bench.config.evidence
    questions = {split: [e.question for e in examined] for split, examined in asked.items()}
    together = [*chain(*questions.values())]
    known = Known(
        probed=_probed(bench, together) if settings.probe else {},
        trials=chosen.sampled.trials([question.id for question in together]) if chosen.sampled else {},
        untrained={
            e.question.id: e.judgment.confidence
            for split, some in questions.items()
            for e in replace(chosen.untrained[split], questions=some)
        },
    )
    unmet = {} if settings.probe else dict.fromkeys((Need.STATES, Need.GREEDY, Need.PROBES), NOT_PROBED)
    if not known.trials:
        unmet[Need.TRIALS] = FROM_LOGS
    train, dev, validation = (_material(examined, bench.config.label_mode, known) for examined in asked.values())
    costs, judge_seconds = _costs(known, asked[MEASURED])
    rivals = run_baselines(Study(train=train, dev=dev, validation=validation), unmet, costs, judge_seconds)
    for name, path in settings.scores.items():
        rivals[name] = Rival(scores=_column(asked[MEASURED], read_scores(path)), cost=Cost())
    return rivals


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of questions by their id: what was read of the untrained model, the trials, the untrained confidence."""

    probed: Mapping[str, Mapping[str, Any]]
    trials: Trials
    untrained: Mapping[str, float]


def _column(examined: Sequence[Examined], values: Mapping[str, float | None]) -> Floats:
    """The value of each question, nan where it has none."""
    found = (values.get(e.question.id) for e in examined)
    return np.array([np.nan if value is None else value for value in found], dtype=np.float64)


def _material(examined: Sequence[Examined], mode: LabelMode, known: Known) -> Material:
    tried = [e.question.id for e in examined if e.question.id in known.trials]
    texts = {name: [trial["text"] for trial in known.trials[name]] for name in tried}
    read = known.probed.items()
    columns: dict[str, Mapping[str, float | None]] = {
        "untrained": known.untrained,
        "entropy": {name: _negative(row["entropy"]) for name, row in read},
        "log_probability": {name: row["log_probability"] for name, row in read},
        "p_true": {name: row["p_true"] for name, row in read},
        "verbalised": {name: stated_number(row["number"] or "") for name, row in read},
        "agreement": {name: agreement(replies) for name, replies in texts.items()},
        "semantic_entropy": {name: _negative(semantic_entropy(replies)) for name, replies in texts.items()},
    }
    return Material(
        event=scores_of(examined, mode, calibration=None).event,
        texts=np.array([e.question.text for e in examined], dtype=object),
        numbers={name: _column(examined, values) for name, values in columns.items()},
        states=_states(examined, known),
    )


def _negative(value: float | None) -> float | None:
    return None if value is None else -value


def _states(examined: Sequence[Examined], known: Known) -> NDArray[np.float16] | None:
    """Hidden states `[layers, questions, hidden]`, nan where a question was not read; None where none was."""
    rows = [known.probed.get(e.question.id, {}) for e in examined]
    read = [probing.unpack_states(row["states"], row["layers"]) if row.get("states") else None for row in rows]
    shape = next((states.shape for states in read if states is not None), None)
    if shape is None:
        return None
    missing = np.full(shape, np.nan, dtype=np.float16)
    return np.stack([missing if states is None else states for states in read], axis=1)


def _costs(known: Known, examined: Sequence[Examined]) -> tuple[dict[str, Cost], float | None]:
    """What asking for each baseline costs per question measured, and the seconds of one pass of the judge.

    A pass is timed on the untrained model, in batches as they came; trials count as so many greedy answers one after the other.
    """
    rows = [row for e in examined if (row := known.probed.get(e.question.id, {})).get("judge_seconds") is not None]
    mean = {name: float(np.mean([row[name] for row in rows])) if rows else None for name in probing.COSTS}
    trials = [known.trials[e.question.id] for e in examined if e.question.id in known.trials]
    sampled = float(np.mean([sum(trial["num_tokens"] for trial in given) for given in trials])) if trials else None
    number = float(np.mean([len(given) for given in trials])) if trials else None

    def times(seconds: float | None, factor: float | None = 1.0) -> float | None:
        judge = mean["judge_seconds"]
        return None if seconds is None or not judge or factor is None else factor * seconds / judge

    answer, answer_tokens = mean["answer_seconds"], mean["answer_tokens"]
    truth = None if answer is None or mean["truth_seconds"] is None else answer + mean["truth_seconds"]
    repeated = Cost(tokens=sampled, relative_latency=times(answer, number))
    costs = {
        "linear-probe": Cost(tokens=0.0, relative_latency=1.0),
        "untrained-judge": Cost(tokens=1.0, relative_latency=1.0),
        "verbalised": Cost(tokens=mean["number_tokens"], relative_latency=times(mean["number_seconds"])),
        "first-token-entropy": Cost(tokens=1.0, relative_latency=times(answer)),
        "answer-log-probability": Cost(tokens=answer_tokens, relative_latency=times(answer)),
        "p-true": Cost(tokens=None if answer_tokens is None else answer_tokens + 1, relative_latency=times(truth)),
        "agreement": repeated,
        "semantic-entropy": repeated,
    }
    return costs, mean["judge_seconds"]


def _probed(bench: Bench, questions: Sequence[Question]) -> dict[str, Mapping[str, Any]]:
    """What the untrained model shows of itself on `questions`, by id."""
    chosen = bench.put("probed", questions)
    config, engine = bench.config, bench.config.engine
    probe = probing.Probe(
        base=bench.base.name,
        digest=bench.base.digest,
        encoding=bench.inputs.encoding,
        prefill=config.chat.prefill,
        trust_remote_code=config.trust_remote_code,
        style=config.prompt_style,
        mode=config.label_mode,
        layers=config.evidence.layers,
        max_tokens=config.sampling.max_tokens,
        max_model_len=engine.max_model_len,
        device=bench.device,
    )
    folder, total = bench.experiment.stage("probe", probe.settings(), [chosen.done]), chosen.done.num_out
    if folder.done() is None:
        pool = probing.ProbePool(
            workers=engine.actors_max, cores=bench.cores, batch_size=config.evidence.batch_size, block_rows=engine.block_rows
        )
        title = "reading the untrained model for the baselines"
        with watch(bench.console, title, "questions", progress_of(folder, total)):
            probing.probe(folder, chosen.folder, total, probe, pool, bench.experiment.logs)
    return {row["id"]: row for row in folder.read().to_pylist()}
