"""The judge beside its baselines on the very same questions, and whether it knows more than the question reveals."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from know_thyself.evaluation.baselines import BASELINES, QUESTION_ONLY
from know_thyself.evaluation.baselines.material import Need, Study
from know_thyself.evaluation.bootstrap import bootstrap_values, percentile_interval
from know_thyself.evaluation.metrics.discrimination import auroc, auroc_statistic
from know_thyself.evaluation.metrics.scores import Column, Floats, Scores

LEAST_KNOWN = 0.5
"""A baseline that has no value for more of the questions than this leaves is not compared."""
ONE_KIND = "the training or dev questions are all of one kind"
TOO_FEW = "it says something of fewer than half of the questions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a baseline costs per question: tokens generated, and time as a multiple of the judge's; None where not measured."""

    tokens: float | None = None
    relative_latency: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """A baseline's scores of the validation questions (nan where it has none) and its cost; `reason` when it has no scores."""

    scores: Floats | None
    cost: Cost
    reason: str = ""


def run_baselines(
    study: Study, unmet: Mapping[Need, str], costs: Mapping[str, Cost], judge_seconds: float | None = None
) -> dict[str, Rival]:
    """Every baseline of the registry on `study`, by name; `unmet` gives the reason for each need that is not met.

    `costs` holds the costs of those that were paid for elsewhere. The others are timed here, learning included, per question
    scored and against the `judge_seconds` that the judge takes for one.
    """
    reasons = dict(unmet)
    if not study.learnable:
        reasons |= {need: reasons.get(need, ONE_KIND) for need in (Need.TEXT, Need.STATES)}
    rivals = {}
    for name, baseline in BASELINES.items():
        reason = reasons.get(baseline.needs, "")
        began = time.perf_counter()
        scores = None if reason else baseline.score(study)
        taken = (time.perf_counter() - began) / max(1, len(study.validation))
        here = Cost(tokens=0.0, relative_latency=taken / judge_seconds if judge_seconds else None)
        missing = "" if scores is not None else reason or "there is nothing to go by"
        rivals[name] = Rival(scores=scores, cost=costs.get(name, here), reason=missing)
    return rivals


def compare(judge: Scores, rivals: Mapping[str, Rival], *, seed: int = 0, replicates: int = 1000) -> dict[str, dict[str, Any]]:
    """For each of `rivals` its AUROC of the event, and by how much the judge's is higher (`delta`), with 95 % intervals.

    Paired: judge and rival are seen on the same draws of groups, on the questions that the rival has a value for. `questions`
    counts these; `reason` says why there are no numbers.
    """
    pairs = {name: pair for name, rival in rivals.items() if (pair := _Pair.of(judge, rival)) is not None}
    values = _draw(pairs, judge.group, seed, replicates) if pairs else {}
    return {name: _row(rival, pairs.get(name), values.get(name)) for name, rival in rivals.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """Judge and rival on the questions that both have a value for."""

    known: Column
    event: Column
    judge: Floats
    rival: Floats

    @classmethod
    def of(cls, judge: Scores, rival: Rival) -> _Pair | None:
        if rival.scores is None:
            return None
        known = ~np.isnan(rival.scores)
        if not len(known) or known.mean() < LEAST_KNOWN:
            return None
        return cls(known=known, event=judge.event[known], judge=judge.confidence[known], rival=rival.scores[known])


def _draw(pairs: Mapping[str, _Pair], group: Column, seed: int, replicates: int) -> dict[str, tuple[Floats, Floats]]:
    """For each pair the rival's AUROC, and the judge's less it, on every replicate."""
    functions = {
        name: [auroc_statistic(scores, pair.event) for scores in (pair.judge, pair.rival)] for name, pair in pairs.items()
    }

    def statistics(weights: Column) -> dict[str, Floats]:
        found = {}
        for name, (of_judge, of_rival) in functions.items():
            drawn = weights[:, pairs[name].known]
            found[name] = of_rival(drawn)
            found[f"{name} behind"] = of_judge(drawn) - found[name]
        return found

    values = bootstrap_values(statistics, group, seed=seed, replicates=replicates) or {}
    return {name: (values[name], values[f"{name} behind"]) for name in pairs if name in values}


def _row(rival: Rival, pair: _Pair | None, values: tuple[Floats, Floats] | None) -> dict[str, Any]:
    own = judged = None
    if pair is not None:
        own, judged = auroc(pair.rival, pair.event), auroc(pair.judge, pair.event)
    (low, high), (delta_low, delta_high) = (_ends(drawn) for drawn in values or (None, None))
    return {
        "auroc": own,
        "auroc_low": low,
        "auroc_high": high,
        "delta": None if own is None or judged is None else judged - own,
        "delta_low": delta_low,
        "delta_high": delta_high,
        "tokens": rival.cost.tokens,
        "relative_latency": rival.cost.relative_latency,
        "questions": 0 if pair is None else len(pair.event),
        "reason": rival.reason or (TOO_FEW if pair is None else "" if own is not None else "all questions are of one class"),
    }


def _ends(drawn: Floats | None) -> tuple[float | None, float | None]:
    return (None if drawn is None else percentile_interval(drawn)) or (None, None)


def audit(compared: Mapping[str, Mapping[str, Any]], question_only: frozenset[str] = QUESTION_ONLY) -> dict[str, Any]:
    """Whether the judge beats the best of the baselines that see nothing but the question, in numbers and in words.

    The best is the one of highest AUROC on these very questions, which favours the baselines.
    """
    known = {name: row for name, row in compared.items() if name in question_only and row["auroc"] is not None}
    if not known:
        return {"baseline": None, "shown": False, "verdict": "Not shown: no baseline that sees only the question was measured."}
    best = max(known, key=lambda name: known[name]["auroc"])
    row = known[best]
    low, high = row["delta_low"], row["delta_high"]
    facts = {"baseline": best, "delta": row["delta"], "delta_low": low, "delta_high": high}
    if low is None or high is None:
        return {**facts, "shown": False, "verdict": "Not shown: there is no interval for the difference."}
    numbers = f"{row['delta']:+.3f} [{low:+.3f}, {high:+.3f}] in AUROC against {best}"
    if low > 0:
        verdict = f"The judge knows more about itself than the question reveals: {numbers}."
    elif high < 0:
        verdict = f"The question reveals more than the judge knows: {numbers}."
    else:
        verdict = f"Not shown that the judge knows more than the question reveals: {numbers}."
    return {**facts, "shown": low > 0, "verdict": verdict}
