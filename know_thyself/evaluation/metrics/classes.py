"""Classes: how the verdicts claimed agree with the abilities measured, as classes without and with an order.

Classes are numbered as in `Scores.classes`. A confusion matrix has a row per class measured and a column per class claimed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from know_thyself.evaluation.bootstrap import Statistics
from know_thyself.evaluation.metrics.scores import Column, Floats, Indices, mean

CLIP = 1e-12


def confusion(ability: Indices, verdict: Indices, num_classes: int) -> Indices:
    """Number of questions by class measured (rows) and class claimed (columns), shape `[classes, classes]`."""
    cells = np.bincount(ability * num_classes + verdict, minlength=num_classes**2)
    return np.asarray(cells, dtype=np.int64).reshape(num_classes, num_classes)


def always_commonest(matrix: Indices) -> Indices:
    """The confusion matrix of a judge that always claims the class measured most often: the majority line."""
    measured = matrix.sum(axis=1)
    line = np.zeros_like(matrix)
    line[:, measured.argmax()] = measured
    return line


def accuracy(matrix: Indices) -> float | None:
    """Share of questions whose verdict is the class measured; None without questions."""
    return float(np.trace(matrix) / matrix.sum()) if matrix.any() else None


def macro_f1(matrix: Indices) -> float | None:
    """Mean over classes of F1 = 2 TP / (2 TP + FP + FN) (Opitz & Burst 2019, the mean of F1 scores), each class counting alike.

    A class that was neither measured nor claimed has no F1 and is left out, as scikit-learn does. None without questions.
    """
    hits, either = np.diag(matrix), matrix.sum(axis=0) + matrix.sum(axis=1)
    known = either > 0
    return float(np.mean(2 * hits[known] / either[known])) if known.any() else None


def balanced_accuracy(matrix: Indices) -> float | None:
    """Mean over the classes measured of the share of their questions that the verdicts found (Brodersen et al. 2010).

    Any constant verdict gets 1 / (classes measured). None without questions.
    """
    measured = matrix.sum(axis=1)
    known = measured > 0
    return float(np.mean(np.diag(matrix)[known] / measured[known])) if known.any() else None


def quadratic_kappa(matrix: Indices) -> float | None:
    """1 - sum(d^2 O) / sum(d^2 E), d the distance of classes, O the matrix, E that of its margins (Cohen 1968).

    1 is perfect, 0 what chance gives verdicts as frequent as these, below 0 worse. None where E leaves nothing to disagree on.
    """
    index = np.arange(len(matrix))
    distance = (index[:, np.newaxis] - index) ** 2
    by_chance = np.outer(matrix.sum(axis=1), matrix.sum(axis=0)) / max(1, matrix.sum())
    expected = float((distance * by_chance).sum())
    return 1 - float((distance * matrix).sum()) / expected if expected > 0 else None


def class_distance(matrix: Indices) -> float | None:
    """Mean number of classes between verdict and ability (Baccianella et al. 2009, mean absolute error); 0 is perfect."""
    index = np.arange(len(matrix))
    return float((np.abs(index[:, np.newaxis] - index) * matrix).sum() / matrix.sum()) if matrix.any() else None


def ranked_probability(probabilities: Floats, ability: Indices) -> float | None:
    """Ranked probability score: mean over questions of sum_j (F_j - O_j)^2 / (classes - 1) (Epstein 1969, Murphy 1971).

    F_j is the probability given to the first j classes, O_j whether the class measured is among them. 0 is perfect, 1 the
    worst; for two classes the Brier score against the class.
    """
    return mean(ranked_distances(probabilities, ability))


def ranked_distances(probabilities: Floats, ability: Indices) -> Floats:
    """The ranked probability score of each question."""
    num_classes = probabilities.shape[1]
    claimed = np.cumsum(probabilities, axis=1)[:, :-1]
    measured = ability[:, np.newaxis] <= np.arange(num_classes - 1)
    distances: Floats = ((claimed - measured) ** 2).sum(axis=1) / (num_classes - 1)
    return distances


def verdict_loss(probabilities: Floats, owed: Floats) -> float | None:
    """Mean cross-entropy in nats of the verdict words' probabilities, clipped to `CLIP` from 0 and 1, against `owed`.

    Both are `[questions, classes]`. The epoch is chosen by it. Of two verdicts k/n and 1 - k/n are owed, and this is the log
    loss of the confidence. Of three, the class measured is owed: a log loss against k/n would need the map from verdicts to
    accuracy, which is fitted on the calibration questions, and no choice may touch these.
    """
    return mean(verdict_losses(probabilities, owed))


def verdict_losses(probabilities: Floats, owed: Floats) -> Floats:
    """The verdict loss of each question."""
    losses: Floats = -(owed * np.log(np.clip(probabilities, CLIP, 1 - CLIP))).sum(axis=1)
    return losses


AGREEMENT: dict[str, Callable[[Indices], float | None]] = {
    "judgment_accuracy": accuracy,
    "majority": lambda matrix: accuracy(always_commonest(matrix)),
    "macro_f1": macro_f1,
    "majority_macro_f1": lambda matrix: macro_f1(always_commonest(matrix)),
    "balanced_accuracy": balanced_accuracy,
}
ORDER: dict[str, Callable[[Indices], float | None]] = {"quadratic_kappa": quadratic_kappa, "class_distance": class_distance}
"""Numbers of a confusion matrix by name: of any classes, and of more than two, which have an order."""


def agreement_statistics(ability: Indices, verdict: Indices, num_classes: int) -> Statistics:
    """The numbers of `AGREEMENT`, and with more than two classes of `ORDER`, from the confusion matrix of each draw."""
    cells = np.eye(num_classes**2)[ability * num_classes + verdict]
    metrics = AGREEMENT | (ORDER if num_classes > 2 else {})

    def statistics(weights: Column) -> dict[str, Floats]:
        matrices = np.rint(weights @ cells).astype(np.int64).reshape(-1, num_classes, num_classes)
        return {
            name: np.array([np.nan if (value := metric(matrix)) is None else value for matrix in matrices])
            for name, metric in metrics.items()
        }

    return statistics
