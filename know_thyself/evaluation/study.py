"""What a study shows, from its judges at work on each pool: their numbers, how they differ, and the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from know_thyself.evaluation.evidence import Examined, in_common
from know_thyself.evaluation.ledger import changes, ledger_facts
from know_thyself.evaluation.metrics.calibration import brier_gain
from know_thyself.evaluation.metrics.discrimination import auroc_gain
from know_thyself.evaluation.metrics.scores import Scores
from know_thyself.evaluation.metrics.summary import summarize
from know_thyself.types import Pool

V1_BEFORE, V1_AFTER, V2_AFTER = "v1_before", "v1_after", "v2_after"
"""Judge v1 on the model it was trained on; the same, by now stale, on the taught model; judge v2 on the taught model."""
GATES = (Pool.TAUGHT_HELD_OUT, Pool.JUDGED_NOT_TAUGHT, Pool.NEVER_SEEN)
"""Pools that no judge trained on: what is claimed of a study is claimed of these. Only the last chose nothing."""
PAIRS = {"updated": (V1_BEFORE, V2_AFTER), "stale": (V1_AFTER, V2_AFTER)}
"""Differences worth knowing: what became of judging by the end, and what a judge loses who is not trained anew."""
GAINS = {"auroc": auroc_gain, "brier": brier_gain}

ByPool = Mapping[Pool, Scores]


def judge_facts(scores: Mapping[str, ByPool], sizes: Mapping[Pool, int], seed: int = 0) -> dict[str, Any]:
    """The `S` of summary.json for each judge and pool; `sizes` are the questions that each pool holds."""
    return {
        judge: {str(pool): summarize(found, sizes[pool] - len(found), seed=seed) for pool, found in by_pool.items()}
        for judge, by_pool in scores.items()
    }


def examined_by_all(examined: Mapping[str, Mapping[str, Sequence[Examined]]]) -> dict[str, dict[str, list[Examined]]]:
    """The questions of each part that every judge has a label and a judgment of, by judge and part; in their order."""
    parts = next(iter(examined.values()))
    shared = {part: in_common([by_part[part] for by_part in examined.values()]) for part in parts}
    return {judge: {part: shared[part][number] for part in parts} for number, judge in enumerate(examined)}


def paired_facts(scores: Mapping[str, ByPool], seed: int = 0) -> dict[str, Any]:
    """For each of `PAIRS` and each pool, by how much the second judge is better than the first, with 95 % intervals.

    `auroc` is in AUROC, None where that is undefined, as in a pool of which the model knows all; `brier` is by how much
    the Brier score is lower. Paired: both judge the same questions (see `examined_by_all`), and a group is drawn for both or
    for neither. `gate` says whether no judge trained on it.
    """
    return {name: {str(pool): _gains(scores, pair, pool, seed) for pool in Pool} for name, pair in PAIRS.items()}


def _gains(scores: Mapping[str, ByPool], pair: tuple[str, str], pool: Pool, seed: int) -> dict[str, Any]:
    first, second = (scores[judge][pool] for judge in pair)
    gains = {name: gain(first, second, seed=seed) for name, gain in GAINS.items()}
    return {"gate": pool in GATES, **{name: gain and gain._asdict() for name, gain in gains.items()}}


def ledger_by_pool(
    before: Mapping[str, Sequence[Examined]], after: Mapping[str, Sequence[Examined]], seed: int = 0
) -> dict[str, Any]:
    """The ledger of each part of the questions: see `know_thyself.evaluation.ledger.ledger_facts`."""
    return {str(part): ledger_facts(changes(before[part], after[part]), seed=seed) for part in before}
