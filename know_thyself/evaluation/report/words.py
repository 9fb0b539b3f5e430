"""What the report says in words: the headline, drawn from the numbers alone, and the meaning of every number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from know_thyself.evaluation.bootstrap import Gain

Facts = Mapping[str, Any]
"""The `S` of summary.json: the numbers of one split at one epoch."""

PERCENT = {"judgment_accuracy", "majority", "balanced_accuracy", "qa_accuracy", "mass"}
PERCENT |= {"accuracy_at_50", "accuracy_at_80", "coverage_at_90", "coverage_at_95"}

LEGEND = {
    "questions": ("Questions", "Questions judged and measured."),
    "dropped": ("Dropped", "Questions left out because they could not be graded or judged."),
    "judgment_accuracy": (
        "Judgment accuracy",
        "Share of questions where the judge's verdict agrees with what the trials showed. Compare it with the majority.",
    ),
    "majority": (
        "Majority",
        "What always giving the commonest verdict would score: the line that judgment accuracy must pass.",
    ),
    "qa_accuracy": ("QA accuracy", "Share of all trials that were right: how well the model answers, whatever it claims."),
    "macro_f1": (
        "Macro-F1",
        "For each class, how well the questions claimed and the questions measured to be of it overlap (1: the same ones), "
        "averaged with every class counting alike. Compare it with the next number.",
    ),
    "majority_macro_f1": ("Macro-F1 of the majority", "What always giving the commonest verdict would score."),
    "balanced_accuracy": (
        "Balanced accuracy",
        "Share of its questions that are judged right, for each class by itself, then averaged. Any constant verdict gets one "
        "divided by the number of classes.",
    ),
    "quadratic_kappa": (
        "Kappa, quadratic",
        "Agreement beyond chance on the scale can, uncertain, cannot; taking can for cannot weighs four times as much as "
        "missing by one class. 1 is perfect, 0 is chance.",
    ),
    "class_distance": ("Class distance", "By how many classes the verdict misses, on average. 0 is perfect, 2 the worst."),
    "ranked_probability": (
        "Ranked probability score",
        "Squared distance of the three probabilities from the class measured, nearer classes counting as nearer. 0 is perfect.",
    ),
    "verdict_loss": (
        "Verdict loss",
        "Penalty for what the probabilities of the verdict words withhold from what was measured, in nats. Lower is better; it "
        "chooses the epoch (on dev). Of two verdicts, against the share of right trials: the log loss. Of three, against the "
        "class: the accuracy they let expect is fitted on the calibration questions, and no choice may touch these.",
    ),
    "auroc": (
        "AUROC",
        "Of one question labelled can and one that is not, how often the judge gives the former more confidence to be can. "
        "1 is perfect, 0.5 is guessing. In brackets the 95 % interval: other questions like these would move it within.",
    ),
    "auroc_all_correct": ("AUROC, all right", "The same, for telling questions with every trial right from all others."),
    "auroc_soft": ("AUROC, by trial", "The same, for telling right trials from wrong ones; no cut-off between can and cannot."),
    "auprc_cannot": (
        "AUPRC of cannot",
        "Precision in finding what the model cannot answer among the least confident questions, averaged over how many of them "
        "are found. Guessing gets their share.",
    ),
    "auroc_can": ("AUROC, can", "Of one question of the class can and one of another, how often the former gets more of can."),
    "auroc_uncertain": ("AUROC, uncertain", "The same for the class uncertain and its own probability."),
    "auroc_cannot": ("AUROC, cannot", "The same for the class cannot and its own probability."),
    "ece": (
        "Calibration error (ECE)",
        "How far the forecast is from the share of right trials, on average over ten bins. The forecast is what "
        "the verdicts let expect by a map fitted on the calibration questions.",
    ),
    "ece_band": (
        "Calibration band",
        "19 of 20 judges that are right on average, whose equal forecasts hide questions as unlike as these, would have a "
        "lower calibration error than this. Below it there is no sign of miscalibration.",
    ),
    "brier": ("Brier score", "Mean squared distance of the forecast from the share of right trials. Lower is better."),
    "brier_skill": ("Brier skill", "How much better than always stating the average accuracy. 1 is perfect, 0 no better."),
    "excess_brier": (
        "Excess Brier",
        "The Brier score without the part that chance in the trials adds. 0 is perfect; chance can take it a little below.",
    ),
    "log_loss": ("Log loss", "Penalty of the forecast for bold mistakes about single trials, in nats. Lower is better."),
    "e_aurc": ("Excess AURC", "What the AURC lacks to a judge that knows how every trial came out. 0 is perfect."),
    "prr": (
        "Rejection ratio (PRR)",
        "Of all that could be gained by holding back the right questions instead of random ones, the share gained. 1 is "
        "perfect, 0 random.",
    ),
    "accuracy_at_50": ("Accuracy at 50 % coverage", "Share of right trials when the surer half of the questions is answered."),
    "accuracy_at_80": ("Accuracy at 80 % coverage", "The same for the surer four fifths."),
    "coverage_at_90": (
        "Coverage at 90 % accuracy",
        "Largest share of the questions that can be answered, surest first, with nine of ten trials right; as seen, not "
        "promised.",
    ),
    "coverage_at_95": ("Coverage at 95 % accuracy", "The same with 95 of 100 right."),
    "aurc": (
        "AURC",
        "Share of wrong trials when only the questions of the highest forecast are answered, averaged over how many. Lower is "
        "better.",
    ),
    "mass": ("Verdict mass", "Probability the model gave to the verdict words at all. Low: it wanted to say something else."),
}
"""For each number of `S` that is shown: its name, and what it means to someone who has not met it."""


def percent(share: float) -> str:
    """`share` in 0..1 as a percentage."""
    return f"{100 * share:.1f} %"


def number(facts: Facts, key: str) -> str:
    """The number `key` of `facts` as shown; for the AUROC its interval, for an undefined number the reason."""
    value = facts[key]
    if value is None:
        return f"undefined: {facts['undefined'].get(key, 'no reason recorded')}"
    if isinstance(value, int):
        return f"{value:,}"
    shown = percent if key in PERCENT else "{:.3f}".format
    ends = facts.get("intervals", {}).get(key)
    if ends is None:
        return shown(value) + (" (no interval)" if key == "auroc" else "")
    return f"{shown(value)} ({shown(ends[0])} to {shown(ends[1])})"


def headline(before: Facts | None, after: Facts | None, gain: Gain | None, best_epoch: int, trained: bool) -> list[str]:
    """What came of training the judge; the first sentence is the finding, the others its grounds.

    `before` and `after` are the validation numbers of epoch 0 and of the chosen epoch, `gain` the paired difference of
    their AUROCs, `trained` whether any epoch was trained. Claims only what the intervals carry.
    """
    if after is None:
        return ["Nothing can be said yet: the chosen epoch was not judged on the validation questions."]
    grounds = [*_against_chance(after), _against_majority(after)]
    if best_epoch == 0:
        return [_untrained(trained), _alone(after), *grounds]
    if before is None or gain is None:
        lacking = "there is no interval for the difference" if before else "the untrained model was not judged on validation"
        return [f"Whether training helped cannot be said: {lacking}.", _alone(after), *grounds]
    return [_finding(gain), _comparison(before, after, gain, best_epoch), *grounds, _answering(before, after)]


def _untrained(trained: bool) -> str:
    if trained:
        return "Training did not help: on the dev questions no epoch did better than the untrained model, which is kept."
    return "Nothing has been trained yet: these are the numbers of the untrained model."


def _finding(gain: Gain) -> str:
    if gain.low > 0:
        return "After training, the model is better at telling which questions it can answer."
    if gain.high < 0:
        return "After training, the model is worse at telling which questions it can answer."
    return "No improvement is shown: the difference after training could be chance."


def _comparison(before: Facts, after: Facts, gain: Gain, best_epoch: int) -> str:
    apart = _intervals_apart(before, after)
    return (
        f"On {after['questions']:,} validation questions, AUROC was {number(before, 'auroc')} untrained and "
        f"{number(after, 'auroc')} after epoch {best_epoch}: a difference of {gain.difference:+.3f} "
        f"(95 % interval {gain.low:+.3f} to {gain.high:+.3f}, both judged on the same draws of questions).{apart}"
    )


def _intervals_apart(before: Facts, after: Facts) -> str:
    ends = [facts[end] for facts in (before, after) for end in ("auroc_low", "auroc_high")]
    if None in ends:
        return ""
    apart = before["auroc_high"] < after["auroc_low"] or after["auroc_high"] < before["auroc_low"]
    return " The two intervals do not overlap." if apart else " The two intervals overlap."


def _alone(after: Facts) -> str:
    return f"On {after['questions']:,} validation questions, AUROC is {number(after, 'auroc')}."


def _against_chance(after: Facts) -> list[str]:
    if after["auroc"] is None:
        return []
    rate = f"{100 * after['auroc']:.0f}"
    sentence = (
        f"Shown one question labelled can and one that is not, the judge is more confident about the right one {rate} times in "
        "100; guessing would be 50."
    )
    if after["auroc_low"] is None or after["auroc_low"] > 0.5:
        return [sentence]
    return [sentence, "That is not shown to be better than guessing."]


def _against_majority(after: Facts) -> str:
    right, constant = after["judgment_accuracy"], after["majority"]
    if right is None or constant is None:
        return "Judgment accuracy is undefined: there are no questions."
    verdict = "" if right > constant else " As a plain verdict, the judgment is no better than that."
    return (
        f"Its verdict is right for {percent(right)} of the questions; "
        f"always giving the commonest verdict, for {percent(constant)}.{verdict}"
    )


def _answering(before: Facts, after: Facts) -> str:
    old, new = before["qa_accuracy"], after["qa_accuracy"]
    if old == new:
        return f"The model answers as before: {percent(new)} of trials right."
    return f"The model's own answers changed too: {percent(old)} of trials right before, {percent(new)} after."
