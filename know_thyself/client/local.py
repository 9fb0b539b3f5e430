"""A judge in this process: no server, no Ray. Starts an engine, which takes 20 to 40 seconds on a CPU."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from know_thyself import labeling, prompts
from know_thyself.config import EngineConfig
from know_thyself.engine.chat import ChatTokenizer
from know_thyself.engine.protocol import Decoding, EngineSpec, load_engine_factory, verdict_shares
from know_thyself.judge import ADAPTER, MODEL, JudgeCard, check_base, check_encoding, read_judge
from know_thyself.models import resolve_model
from know_thyself.stages.merging import merge_adapter
from know_thyself.types import ModelRef, Question, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What the judge says of one question. `confidence` is P(`event`) as read, not calibrated.

    `p_correct` is the accuracy to expect, None of a judge that was not calibrated.
    """

    question: str
    verdict: Verdict
    confidence: float
    event: str
    p_correct: float | None


class LocalJudge:
    """The judge of a folder, on an engine of this process; a context manager, as merged weights live in a temporary folder."""

    def __init__(self, folder: Path, engine: EngineConfig | None = None, trust_remote_code: bool = False) -> None:
        """Verify the judge in `folder`, its base and its chat template, then start the engine.

        `trust_remote_code` lets code run that comes with the base. Raises `JudgeError`, `ConfigError` or `EngineError`.
        """
        settings = engine or EngineConfig()
        self.card: JudgeCard = read_judge(folder)
        base = resolve_model(self.card.base, None, trust_remote_code)
        check_base(self.card, base)
        check_encoding(self.card, ChatTokenizer(base.name, trust_remote_code, self.card.prefill).digest)
        self._scratch = tempfile.TemporaryDirectory(prefix="know-thyself-")
        self._answerer = ModelRef(name=str(folder / MODEL) if (folder / MODEL).is_dir() else base.name)
        self._judge = self._merged(base, folder / ADAPTER, trust_remote_code)
        spec = EngineSpec(
            base=base.name,
            device="cpu",
            mode="swap",
            max_model_len=settings.max_model_len,
            cache_gib=settings.cache_gib,
            cores=os.cpu_count() or 1,
            trust_remote_code=trust_remote_code,
            prefill=self.card.prefill,
        )
        self._engine = load_engine_factory(settings.backend)(spec)

    def __enter__(self) -> LocalJudge:
        return self

    def __exit__(self, *_: object) -> None:
        self._scratch.cleanup()

    def _merged(self, base: ModelRef, adapter: Path, trust_remote_code: bool) -> ModelRef:
        if not adapter.is_dir():
            return self._answerer
        out = Path(self._scratch.name) / "model"
        merge_adapter(Path(base.name), adapter, out, trust_remote_code)
        return ModelRef(name=str(out))

    def judge(self, texts: Sequence[str]) -> list[Opinion]:
        """An opinion on each of `texts`. Raises `ValueError` when one is too long for the engine."""
        card = self.card
        chats = [prompts.judge_messages(_question(text), card.prompt_style, card.label_mode) for text in texts]
        self._engine.use(self._judge)
        read = self._engine.judge(chats, card.verdict_words)
        if not np.isfinite(read).all():
            raise ValueError("a question is too long for the engine: raise max-model-len or shorten it")
        shares = verdict_shares(read)
        expected = card.calibration.forecast(shares).tolist() if card.calibration else [None] * len(texts)
        return [
            Opinion(
                question=text,
                verdict=prompts.read_verdict(row.tolist(), card.label_mode),
                confidence=labeling.confidence(row.tolist(), card.label_mode),
                event=card.event,
                p_correct=p_correct,
            )
            for text, row, p_correct in zip(texts, shares, expected, strict=True)
        ]

    def answer(self, texts: Sequence[str]) -> list[str]:
        """The greedy answer to each of `texts` of the model that is judged: the bare base, or the fully tuned model."""
        self._engine.use(self._answerer)
        decoding = Decoding(num_trials=1, temperature=0.0, top_p=1.0, max_tokens=int(self.card.decoding["max_tokens"]))
        chats = [prompts.answer_messages(_question(text)) for text in texts]
        return [replies[0].text for replies in self._engine.sample(chats, [0] * len(texts), decoding)]


def _question(text: str) -> Question:
    return Question(id="", text=text, answers=())
