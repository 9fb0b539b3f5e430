"""Baselines that learn: from the text of the questions alone (the shortcuts), and from hidden states (the probe).

Each fits on train, chooses its settings by AUROC on dev and scores the validation questions. scikit-learn is imported where it
is used, as it takes a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from know_thyself.evaluation.baselines.material import MOST_TEXTS, Study
from know_thyself.evaluation.metrics.discrimination import auroc
from know_thyself.evaluation.metrics.scores import Column, Floats

STRENGTHS = (0.01, 0.1, 1.0, 10.0)
"""Inverse regularisation of logistic regressions over texts."""
PROBE_STRENGTHS = (0.001, 0.01, 0.1)
NEIGHBOURS = (5, 15, 50)
Candidates = Iterator[tuple[Floats, Floats]]
"""Scores of dev and of validation questions, one pair per setting."""


def _best(candidates: Candidates, event: Column) -> Floats | None:
    """The validation scores of the setting that tells dev questions best; the earlier of equals; None without a setting."""
    known = [(auroc(on_dev, event), scored) for on_dev, scored in candidates]
    ranked = [(value, scored) for value, scored in known if value is not None]
    return max(ranked, key=lambda found: found[0])[1] if ranked else None


def text_logistic(study: Study) -> Floats | None:
    """Logistic regression on the TF-IDF weights of words and of pieces of words (`Study.text_features`)."""
    from sklearn.linear_model import LogisticRegression

    train, dev, validation = study.text_features

    def candidates() -> Candidates:
        for strength in STRENGTHS:
            fitted = LogisticRegression(C=strength, max_iter=300).fit(train, study.train.event[:MOST_TEXTS])
            yield fitted.decision_function(dev), fitted.decision_function(validation)

    return _best(candidates(), study.dev.event)


def text_neighbours(study: Study) -> Floats | None:
    """The share of the nearest training questions, by TF-IDF cosine, of which the event holds, weighted by nearness."""
    from sklearn.neighbors import KNeighborsClassifier

    train, dev, validation = study.text_features

    def candidates() -> Candidates:
        for number in NEIGHBOURS:
            if number <= train.shape[0]:
                near = KNeighborsClassifier(number, metric="cosine", algorithm="brute", weights=_nearness)
                fitted = near.fit(train, study.train.event[:MOST_TEXTS])
                yield fitted.predict_proba(dev)[:, 1], fitted.predict_proba(validation)[:, 1]

    return _best(candidates(), study.dev.event)


def _nearness(distance: Floats) -> Floats:
    nearness: Floats = 1.0 + 1e-3 - np.clip(distance, 0.0, 1.0)
    return nearness


def linear_probe(study: Study) -> Floats | None:
    """Logistic regression on the hidden states of one layer; layer and strength chosen on dev (a sweep)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    states = [part.states for part in (study.train, study.dev, study.validation)]
    if any(part is None for part in states):
        return None
    known = [~np.isnan(part[0, :, 0]) for part in states if part is not None]

    def candidates() -> Candidates:
        for layers in zip(*(part for part in states if part is not None), strict=True):
            precise = [layer.astype(np.float32) for layer in layers]
            scaler = StandardScaler().fit(precise[0][known[0]])
            train, dev, validation = (np.nan_to_num(scaler.transform(layer)) for layer in precise)
            for strength in PROBE_STRENGTHS:
                fitted = LogisticRegression(C=strength, max_iter=300).fit(train[known[0]], study.train.event[known[0]])
                yield fitted.decision_function(dev), fitted.decision_function(validation)

    return _best(candidates(), study.dev.event)


Learner = Callable[[Study], Floats | None]
