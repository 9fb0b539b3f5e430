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
from know_thyself.engine.fitting import Room, fit_contexts
from know_thyself.engine.protocol import Chat, Decoding, EngineSpec, load_engine_factory, verdict_shares
from know_thyself.errors import DataError, EngineError
from know_thyself.judge import ADAPTER, MODEL, JudgeCard, check_base, check_encoding, read_judge
from know_thyself.models import resolve_model
from know_thyself.stages.merging import merge_adapter
from know_thyself.types import ModelRef, Question, Split, Verdict

Contexts = Sequence[str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What the judge says of one question. `confidence` is P(`event`) as read, not calibrated.

    `p_correct` is the accuracy to expect, None of a judge that was not calibrated. `context_cut` tells that the context was
    too long for the model and lost its end.
    """

    question: str
    verdict: Verdict
    confidence: float
    event: str
    p_correct: float | None
    context_cut: bool


class LocalJudge:
    """The judge of a folder, on an engine of this process; a context manager, as merged weights live in a temporary folder.

    It asks as the judge's run did: same prompts, same longest prompt (whatever `engine` says of that), contexts cut alike.
    """

    def __init__(self, folder: Path, engine: EngineConfig | None = None, trust_remote_code: bool = False) -> None:
        """Verify the judge in `folder`, its base and its chat template, then start the engine.

        `trust_remote_code` lets code run that comes with the base. Raises `JudgeError`, `ConfigError` or `EngineError`.
        """
        settings = engine or EngineConfig()
        self.card: JudgeCard = read_judge(folder)
        base = resolve_model(self.card.base, None, trust_remote_code)
        check_base(self.card, base)
        self._chat = ChatTokenizer(base.name, trust_remote_code, self.card.prefill)
        check_encoding(self.card, self._chat.digest)
        self._room = _room_of(self.card)
        self._scratch = tempfile.TemporaryDirectory(prefix="know-thyself-")
        self._answerer = ModelRef(name=str(folder / MODEL) if (folder / MODEL).is_dir() else base.name)
        self._judge = self._merged(base, folder / ADAPTER, trust_remote_code)
        spec = EngineSpec(
            base=base.name,
            device="cpu",
            mode="swap",
            max_model_len=self.card.max_model_len,
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

    def judge(self, texts: Sequence[str], contexts: Contexts | None = None) -> list[Opinion]:
        """An opinion on each of `texts`, each asked with its own of `contexts`, where there is one.

        Raises `DataError` when a question is too long for the model even without its context, `EngineError` when the judge's
        weights make no number of it.
        """
        card, asked = self.card, _questions(texts, contexts)
        cut, _ = fit_contexts(asked, self._chat, self._room)
        chats = self._fitting(cut, [self._room.judge_chat(question) for question in cut])
        self._engine.use(self._judge)
        read = self._engine.judge(chats, card.verdict_words)
        if not np.isfinite(read).all():
            raise EngineError(f"the judge {card.experiment} reads no number at the verdict words: train it again")
        shares = verdict_shares(read)
        expected = card.calibration.forecast(shares).tolist() if card.calibration else [None] * len(texts)
        return [
            Opinion(
                question=question.text,
                verdict=prompts.read_verdict(row.tolist(), card.label_mode),
                confidence=labeling.confidence(row.tolist(), card.label_mode),
                event=card.event,
                p_correct=p_correct,
                context_cut=question.context != fitted.context,
            )
            for question, fitted, row, p_correct in zip(asked, cut, shares, expected, strict=True)
        ]

    def answer(self, texts: Sequence[str], contexts: Contexts | None = None) -> list[str]:
        """The greedy answer to each of `texts` of the model that is judged: the bare base, or the fully tuned model.

        Contexts are given and cut as for `judge`. Raises `DataError` as that does.
        """
        cut, _ = fit_contexts(_questions(texts, contexts), self._chat, self._room)
        chats = self._fitting(cut, [self._room.answer_chat(question) for question in cut])
        self._engine.use(self._answerer)
        decoding = Decoding(num_trials=1, temperature=0.0, top_p=1.0, max_tokens=self._room.max_tokens)
        return [replies[0].text for replies in self._engine.sample(chats, [0] * len(texts), decoding)]

    def _fitting(self, questions: Sequence[Question], asked: Sequence[tuple[Chat, int]]) -> list[Chat]:
        """The chats of `asked`, one for each of `questions`; `DataError` where one has more tokens than it may."""
        chats = [chat for chat, _ in asked]
        for question, tokens, (_, limit) in zip(questions, self._chat.encode_all(chats), asked, strict=True):
            if len(tokens) > limit:
                raise DataError(
                    f"the question {question.text[:40]!r} makes a prompt of {len(tokens)} tokens, and this judge's model is "
                    f"given at most {limit}: shorten it, or train a judge with a larger --engine.max-model-len"
                )
        return chats


def _room_of(card: JudgeCard) -> Room:
    """What prompts must fit, as in the judge's run."""
    max_tokens = int(card.decoding["max_tokens"])
    return Room(max_model_len=card.max_model_len, max_tokens=max_tokens, style=card.prompt_style, mode=card.label_mode)


def _questions(texts: Sequence[str], contexts: Contexts | None) -> list[Question]:
    """`texts` with their contexts, as unseen questions. Raises `DataError` unless there are as many of these as of those."""
    if contexts is not None and len(contexts) != len(texts):
        raise DataError(f"{len(contexts)} contexts for {len(texts)} questions: give each its own, or None")
    return [
        Question(id="", text=text, answers=(), context=context, split=Split.VALIDATION)
        for text, context in zip(texts, contexts or [None] * len(texts), strict=True)
    ]
