"""Does training a judge change what the base answers?

    python -m benchmarks.base_untouched latest

Compares the SHA-256 of the base's files with those of when the judge was trained, and the tokens of 200 validation questions,
sampled on one engine before it loads the judge and after it has left it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from joblib import cpu_count

from know_thyself import prompts
from know_thyself.config import RunConfig
from know_thyself.engine.pool import trial_seed
from know_thyself.engine.protocol import EngineSpec
from know_thyself.engine.vllm import VllmEngine
from know_thyself.experiment import find_experiment
from know_thyself.judge import ADAPTER, check_base, read_judge
from know_thyself.models import resolve_model
from know_thyself.pipelines.bench import decoding_of
from know_thyself.pipelines.inputs import load_questions
from know_thyself.stages.merging import merge_adapter
from know_thyself.types import ModelRef, Split

COUNT = 200


def main() -> None:
    experiment = find_experiment(Path(os.environ.get("KT_EXPERIMENTS", "experiments")).absolute(), *sys.argv[1:2] or ["latest"])
    config = RunConfig(**json.loads((experiment.path / "config.json").read_text()))
    card, base = read_judge(experiment.judge), resolve_model(config.model, config.revision)
    check_base(card, base)
    print(f"base files: sha256 as when the judge was trained ({base.digest[:12]})")
    spec = EngineSpec(base=base.name, device="cpu", mode="swap", max_model_len=config.engine.max_model_len, cores=cpu_count())
    engine = VllmEngine(spec)
    questions = load_questions(config).of(Split.VALIDATION)[:COUNT]
    answer_chats = [prompts.answer_messages(question) for question in questions]
    judge_chats = [prompts.judge_messages(question, card.prompt_style, card.label_mode) for question in questions]
    seeds = [trial_seed(question.id, config.seed) for question in questions]
    words = list(card.verdict_words)
    before, read = engine.sample(answer_chats, seeds, decoding_of(config)), engine.judge(judge_chats, words)
    with tempfile.TemporaryDirectory() as scratch:
        merge_adapter(Path(base.name), experiment.judge / ADAPTER, Path(scratch) / "model")
        engine.use(ModelRef(name=f"{scratch}/model"))
        judged = engine.judge(judge_chats, words)
        engine.use(ModelRef(name=base.name))
    after, again = engine.sample(answer_chats, seeds, decoding_of(config)), engine.judge(judge_chats, words)
    same = sum(a == b for a, b in zip(before, after, strict=True))
    print(f"answers: {same} of {len(questions)} questions have the same five answers after the judge has come and gone")
    moved, left = abs(judged - read).max(), abs(again - read).max()
    print(f"reads: the judge moved them by up to {moved:.2f}, the base's came back to within {left:.1e}")
    sys.exit(0 if same == len(questions) else 1)


if __name__ == "__main__":
    main()
