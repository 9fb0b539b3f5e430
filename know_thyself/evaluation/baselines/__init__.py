"""What a judge is held against on the very same questions and labels: cheaper, older and shallower ways to the same answer.

One registry. Each baseline says what it needs, so that work which several need is done once and one that lacks something is
left out by name; each scores the validation questions, more meaning more able. `QUESTION_ONLY` see nothing but the question:
what they reach is what the question reveals, and only what a judge adds to that is knowledge of itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from know_thyself.evaluation.baselines.learned import linear_probe, text_logistic, text_neighbours
from know_thyself.evaluation.baselines.material import Material, Need, Study
from know_thyself.evaluation.metrics.scores import Floats

__all__ = ["BASELINES", "QUESTION_ONLY", "Baseline", "Material", "Need", "Study"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """One way to tell what a model can answer: `kind` is its number in the protocol, B0 to B8.

    `score` gives the validation questions' scores, None where it has nothing to go by; `about` says what it is in words.
    """

    name: str
    kind: str
    about: str
    needs: Need
    score: Callable[[Study], Floats | None]


def _column(name: str) -> Callable[[Study], Floats | None]:
    """The scores that stand in a column."""

    def score(study: Study) -> Floats | None:
        return study.validation.numbers.get(name)

    return score


def _base_rate(study: Study) -> Floats:
    return np.full(len(study.validation), study.train.event.mean() if len(study.train) else 0.5)


def _length(study: Study) -> Floats:
    """The number of letters, in the direction that tells the training questions."""
    from know_thyself.evaluation.metrics.discrimination import auroc

    lengths = [np.array([float(len(text)) for text in part.texts]) for part in (study.train, study.validation)]
    longer_is_better = (auroc(lengths[0], study.train.event) or 0.5) >= 0.5
    return lengths[1] if longer_is_better else -lengths[1]


_ALL = (
    ("base-rate", "B0", "the share of questions that can be answered, said of each", Need.NOTHING, _base_rate),
    ("question-length", "B0", "how long the question is", Need.TEXT, _length),
    ("text-logistic", "B1", "words and letters of the question, learned from the training questions", Need.TEXT, text_logistic),
    ("text-neighbours", "B1", "the most similar training questions", Need.TEXT, text_neighbours),
    ("linear-probe", "B4", "a linear read-out of the untrained model where the judge looks", Need.STATES, linear_probe),
    ("untrained-judge", "B5", "P(yes) of the model before training", Need.UNTRAINED, _column("untrained")),
    ("verbalised", "B6", "a number from 0 to 100 that the model states", Need.PROBES, _column("verbalised")),
    ("first-token-entropy", "B7", "how sure the model is of its answer's first token", Need.GREEDY, _column("entropy")),
    (
        "answer-log-probability",
        "B7",
        "how likely the model finds its own greedy answer",
        Need.GREEDY,
        _column("log_probability"),
    ),
    ("p-true", "B7", "the model is shown its answer and asked whether it is right", Need.PROBES, _column("p_true")),
    ("agreement", "B8", "how many of the trials give the commonest answer", Need.TRIALS, _column("agreement")),
    ("semantic-entropy", "B8", "how the trials spread over different answers", Need.TRIALS, _column("semantic_entropy")),
)
BASELINES: Mapping[str, Baseline] = {
    name: Baseline(name=name, kind=kind, about=about, needs=needs, score=score) for name, kind, about, needs, score in _ALL
}
"""By name. B2 (popularity) and B3 (a judge of another model) come as files of scores: see `data.scores`."""

QUESTION_ONLY = frozenset(name for name, baseline in BASELINES.items() if baseline.needs in (Need.NOTHING, Need.TEXT))
