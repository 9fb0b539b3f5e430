"""How good is the trained judge, beside the untrained one and a linear probe on the same prompt?

    python -m benchmarks.judge_quality --preset world --seeds 0 1 2
    python -m benchmarks.judge_quality --preset world --seeds 0 1 2 --model DIR/model --dataset DIR/questions

Runs the main job once per seed (resuming what is there), each with its epoch chosen on dev, and prints validation AUROC. The
probe is a logistic regression on the base model's last hidden state at the verdict position of the judge prompt, trained on the
same questions as the judge, its regularisation and layer chosen on dev.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from rich.console import Console
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from transformers import AutoModelForCausalLM

from know_thyself import prompts
from know_thyself.config import RunConfig, load_config
from know_thyself.engine.chat import ChatTokenizer
from know_thyself.evaluation.metrics.discrimination import auroc
from know_thyself.experiment import Experiment
from know_thyself.models import resolve_model
from know_thyself.pipelines import adaptive
from know_thyself.pipelines.inputs import check_inputs, load_questions, rule_of
from know_thyself.progress import own_console
from know_thyself.types import Ability, Question, Split

BATCH = 64
STRENGTHS = (0.001, 0.01, 0.1, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments, flags = parser.parse_known_args()
    console = own_console()
    rows = [_measure(load_config([*flags, "--seed", str(seed)], "judge_quality"), console) for seed in arguments.seeds]
    names = ("untrained", "trained", "probe")
    for seed, row in zip(arguments.seeds, rows, strict=True):
        print(
            f"seed {seed}: " + ", ".join(f"{name} {value:.4f}" for name, value in zip(names, row[:3], strict=True)),
            f"(epoch {row[3]})",
        )
    means = [statistics.mean(row[i] for row in rows) for i in range(3)]
    print("mean:   " + ", ".join(f"{name} {value:.4f}" for name, value in zip(names, means, strict=True)))


def _measure(config: RunConfig, console: Console) -> tuple[float, float, float, int]:
    path = adaptive.run(config, check_inputs(config), console)
    summary = json.loads((path / "summary.json").read_text())
    by_epoch = {row["epoch"]: row["validation"]["auroc"] for row in summary["epochs"]}
    return by_epoch[0], by_epoch[summary["best_epoch"]], probe(config, Experiment(path)), summary["best_epoch"]


def probe(config: RunConfig, experiment: Experiment) -> float:
    """Validation AUROC of the best linear read-out of the base under the judge prompt."""
    events = _events(config, experiment)
    questions = load_questions(config)
    splits = {split: [q for q in questions.of(split) if q.id in events] for split in (Split.TRAIN, Split.DEV, Split.VALIDATION)}
    states = {split: _states(config, asked) for split, asked in splits.items()}
    labels = {split: np.array([events[q.id] for q in asked]) for split, asked in splits.items()}
    best = max(_fits(states, labels), key=lambda found: found[0])
    return best[1]


def _events(config: RunConfig, experiment: Experiment) -> dict[str, bool]:
    rule = rule_of(config)
    (graded,) = [Path(p) for p in experiment.path.glob("stages/grade-*")]
    rows = [row for part in graded.glob("part-*.parquet") for row in pq.read_table(part).to_pylist()]
    return {
        row["id"]: rule.ability(sum(row["correct"]), len(row["correct"])) is not Ability.CANNOT
        for row in rows
        if None not in row["correct"]
    }


def _states(config: RunConfig, questions: list[Question]) -> NDArray[np.float32]:
    """Hidden states at the verdict position, shape `[layers + 1, questions, hidden]`."""
    base = resolve_model(config.model, config.revision)
    model = AutoModelForCausalLM.from_pretrained(base.name, dtype=torch.float32)
    chat = ChatTokenizer(base.name)
    encoded = [chat.encode(prompts.judge_messages(q, config.prompt_style, config.label_mode)) for q in questions]
    batches = []
    with torch.no_grad():
        for first in range(0, len(encoded), BATCH):
            ids = encoded[first : first + BATCH]
            padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(i) for i in ids], batch_first=True)
            hidden = torch.stack(model.model(padded, output_hidden_states=True).hidden_states)
            batches.append(hidden[:, torch.arange(len(ids)), torch.tensor([len(i) - 1 for i in ids])].numpy())
    return np.concatenate(batches, axis=1)


def _fits(states: dict[Split, NDArray[np.float32]], labels: dict[Split, NDArray[np.bool_]]) -> Iterator[tuple[float, float]]:
    """Dev and validation AUROC of each layer and regularisation strength."""
    for layer in range(1, len(states[Split.TRAIN])):
        scaler = StandardScaler().fit(states[Split.TRAIN][layer])
        scaled = {split: scaler.transform(values[layer]) for split, values in states.items()}
        for strength in STRENGTHS:
            fit = LogisticRegression(C=strength, max_iter=2000).fit(scaled[Split.TRAIN], labels[Split.TRAIN])
            found = [auroc(fit.predict_proba(scaled[s])[:, 1], labels[s]) for s in (Split.DEV, Split.VALIDATION)]
            if found[0] is not None and found[1] is not None:
                yield found[0], found[1]


if __name__ == "__main__":
    main()
