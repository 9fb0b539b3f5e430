"""Decision: what is gained by answering only the questions with the highest forecast."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from know_thyself.evaluation.bootstrap import Statistics, at_once
from know_thyself.evaluation.metrics.ranking import Ranking, dot, ratio
from know_thyself.evaluation.metrics.scores import Column, Floats

COVERAGES = (0.5, 0.8)
ACCURACIES = (0.9, 0.95)


def risk_coverage(forecast: Floats, outcome: Floats) -> tuple[Floats, Floats]:
    """Coverage i/questions and the share of wrong trials of the i questions with the highest forecast (El-Yaniv & Wiener 2010).

    Questions of equal forecast are taken in random order: the curve is the expected one. Both arrays have one entry per
    question. The oracle's curve is `risk_coverage(outcome, outcome)`; random choice stays at 1 - mean(outcome).
    """
    _, tie, size = np.unique(-forecast, return_inverse=True, return_counts=True)
    expected = np.bincount(tie, weights=1 - outcome) / size
    answered = np.arange(1, len(forecast) + 1)
    return answered / max(1, len(answered)), np.cumsum(np.repeat(expected, size)) / answered


def aurc(forecast: Floats, outcome: Floats) -> float | None:
    """Area under the risk-coverage curve: the mean risk over all coverages (Geifman et al. 2019); lower is better."""
    return at_once(decision_statistics(forecast, outcome), len(forecast)).get("aurc")


@lru_cache(maxsize=2)
def _harmonic(count: int) -> Floats:
    """The harmonic numbers H_0 to H_count."""
    return np.concatenate([[0.0], np.cumsum(1 / np.arange(1, count + 1))])


class _Answered:
    """The questions drawn, by falling forecast, block by block of equal forecast: how many, and how many trials wrong.

    All arrays are `[replicates, blocks]`: `before` and `wrong_before` count what ranks above a block, `after` and `wrong_after`
    the block with it; `rate` is the share of wrong trials in it.
    """

    def __init__(self, size: Floats, wrong: Floats) -> None:
        self.size, self.wrong = size, wrong
        self.after, self.wrong_after = np.cumsum(size, axis=1), np.cumsum(wrong, axis=1)
        self.before, self.wrong_before = self.after - size, self.wrong_after - wrong
        self.rate = wrong / np.maximum(size, 1.0)
        self.total = self.after[:, -1]

    def aurc(self, harmonic: Floats) -> Floats:
        """Mean of (wrong so far)/i over the i answered, exact within blocks: sum of (e + c j)/(b + j) by `harmonic` numbers."""
        steps = np.diff(harmonic[self.after.astype(np.int32)], axis=1, prepend=0.0)
        mean: Floats = (self.wrong.sum(axis=1) + dot(self.wrong_before - self.rate * self.before, steps)) / self.total
        return mean

    def remaining(self) -> Floats:
        """Mean over i of (wrong among the first i)/questions: the area under the rejection curve (Malinin & Gales 2021)."""
        inside = dot(self.size, self.wrong_before) + (dot(self.wrong, self.size) + self.wrong.sum(axis=1)) / 2
        mean: Floats = inside / self.total**2
        return mean

    def accuracy_at(self, coverage: float) -> Floats:
        """Share of right trials of the first `coverage` of the questions, ties in random order."""
        answered = np.ceil(coverage * self.total - 1e-9)
        block = np.array([np.searchsorted(after, count) for after, count in zip(self.after, answered, strict=True)])
        row = np.arange(len(block))
        wrong = self.wrong_before[row, block] + (answered - self.before[row, block]) * self.rate[row, block]
        accuracy: Floats = 1 - wrong / answered
        return accuracy

    def coverage_at(self, accuracy: float) -> Floats:
        """Largest share of the questions that a threshold lets pass with at least so many trials right; 0 where none does."""
        good = self.wrong_after <= (1 - accuracy) * self.after + 1e-9
        last = good.shape[1] - 1 - good[:, ::-1].argmax(axis=1)
        row = np.arange(len(last))
        coverage: Floats = np.where(good[row, last], self.after[row, last], 0.0) / self.total
        return coverage


def decision_statistics(forecast: Floats, outcome: Floats) -> Statistics:
    """The worth of answering by falling `forecast`, with the share of wrong trials, 1 - outcome, as the risk.

    - `aurc`, and `e_aurc`, what it lacks to an oracle that ranks by the outcome (Geifman et al. 2019); 0 is the oracle's.
    - `prr`, the prediction rejection ratio (Malinin & Gales 2021): of the area that the oracle's rejection curve gains over
      random rejection, the share gained. 1 is the oracle, 0 random; nan where all outcomes are equal.
    - `accuracy_at_50`, `accuracy_at_80`: share of right trials at these coverages, in percent.
    - `coverage_at_90`, `coverage_at_95`: coverage at these accuracies, as seen: no promise for other questions.
    """
    by_forecast, by_outcome = Ranking(-forecast), Ranking(-outcome)
    risk = 1 - outcome
    risks = [(ranking, ranking.place(risk)) for ranking in (by_forecast, by_outcome)]

    def statistics(weights: Column) -> dict[str, Floats]:
        drawn = [(ranking, ranking.draw(weights), placed) for ranking, placed in risks]
        judge, oracle = (_Answered(ranking.sums(own), ranking.sums(own * placed)) for ranking, own, placed in drawn)
        harmonic = _harmonic(1 << int(judge.total.max()).bit_length())
        aurc, best = judge.aurc(harmonic), oracle.aurc(harmonic)
        random = judge.wrong_after[:, -1] * (judge.total + 1) / (2 * judge.total**2)
        gained, gainable = random - judge.remaining(), random - oracle.remaining()
        return {
            "aurc": aurc,
            "e_aurc": aurc - best,
            "prr": ratio(gained, np.where(gainable > 1e-12, gainable, 0.0)),
            **{f"accuracy_at_{round(100 * share)}": judge.accuracy_at(share) for share in COVERAGES},
            **{f"coverage_at_{round(100 * share)}": judge.coverage_at(share) for share in ACCURACIES},
        }

    return statistics
