"""A judge in this process: no server, no Ray. Starts an engine, which takes 20 to 40 seconds on a CPU."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from jinja2 import TemplateError
from joblib import cpu_count

from know_thyself import labeling, prompts
from know_thyself.asking import Answer, Asked, Opinion, Refusal, Sampling
from know_thyself.config import EngineConfig
from know_thyself.engine.chat import ChatTokenizer
from know_thyself.engine.fitting import Window, fit_contexts
from know_thyself.engine.protocol import Chat, Decoding, Engine, EngineSpec, Reply, load_engine_factory, verdict_shares
from know_thyself.engine.weights import not_finite, resized
from know_thyself.errors import DataError, EngineError, JudgeError, first_line
from know_thyself.judge import (
    ADAPTER,
    MODEL,
    JudgeCard,
    check_base,
    check_beside,
    check_encoding,
    check_vocabulary,
    read_judge,
)
from know_thyself.models import resolve_model
from know_thyself.stages.merging import merge_adapter
from know_thyself.types import Finish, ModelRef, Question, Split

Contexts = Sequence[str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    """A question with the prompt that asks it, of `num_tokens` tokens, and whether its context was cut for that."""

    asked: Asked
    chat: Chat
    num_tokens: int
    context_cut: bool


Prompt = Callable[[Window, Question], tuple[Chat, int]]


class LocalJudge:
    """The judge of a folder, on an engine of this process; a context manager, as merged weights live in a temporary folder.

    It asks as the judge's run did: same prompts, same longest prompt (whatever `engine` says of that), contexts cut alike. The
    temporary folder goes with the context, or with the judge. For one thread: the engines of a process share what they are
    working on.
    """

    def __init__(
        self,
        folder: Path,
        engine: EngineConfig | None = None,
        trust_remote_code: bool = False,
        answers: bool = False,
        beside: LocalJudge | None = None,
    ) -> None:
        """Verify the judge in `folder`, its weights, its base and its chat template, then start the engine.

        `trust_remote_code` lets code run that comes with the base. With `answers`, a base that answers beside its judge gets an
        engine of its own, so that no weights are swapped between judgments and answers. `beside` lends its engines, which are
        then not touched before a question is asked: on one thread, the two may be asked in turn, and each turn loads the
        weights of the one asked. Raises `JudgeError`, `ConfigError` or `EngineError`.
        """
        self.card: JudgeCard = read_judge(folder)
        if beside is not None:
            check_beside(self.card, beside.card)
        base = resolve_model(self.card.base, None, trust_remote_code)
        check_base(self.card, base)
        self._chat = ChatTokenizer(base.name, trust_remote_code, self.card.prefill)
        check_encoding(self.card, self._chat.digest)
        check_vocabulary(self.card, self._chat.word_tokens(self.card.verdict_words))
        _check_weights(folder, Path(base.name))
        self._window = _window_of(self.card)
        scratch = tempfile.mkdtemp(prefix="know-thyself-")
        self._clean = weakref.finalize(self, shutil.rmtree, scratch)
        is_whole = (folder / MODEL).is_dir()
        self._answerer = ModelRef(name=str(folder / MODEL), digest=self.card.digest) if is_whole else ModelRef(name=base.name)
        self._judge = self._merged(base, folder / ADAPTER, Path(scratch) / MODEL, trust_remote_code)
        start = partial(_started, self.card, base, engine or EngineConfig(), trust_remote_code)
        takes_two = answers and self._judge != self._answerer
        self._engine: Engine = beside._engine if beside else start()
        self._answering: Engine = beside._answering if beside else start() if takes_two else self._engine

    def __enter__(self) -> LocalJudge:
        return self

    def __exit__(self, *_: object) -> None:
        self._clean()

    def _merged(self, base: ModelRef, adapter: Path, out: Path, trust_remote_code: bool) -> ModelRef:
        if not adapter.is_dir():
            return self._answerer
        merge_adapter(Path(base.name), adapter, out, trust_remote_code)
        return ModelRef(name=str(out))

    def judge(self, text: str, context: str | None = None) -> Opinion:
        """An opinion on one question. Raises as `judge_many`."""
        return self.judge_many([text], [context])[0]

    def judge_many(self, texts: Sequence[str], contexts: Contexts | None = None) -> list[Opinion]:
        """An opinion on each of `texts`, each asked with its own of `contexts`, where there is one.

        Raises `DataError` when a question is too long for the model even without its context, `EngineError` when the judge's
        weights make no number of it.
        """
        asked = _asked(texts, contexts)
        return self._read(_all_fitted(asked, self._fit(asked, Window.judge_chat)))

    def judge_each(self, asked: Sequence[Asked]) -> list[Opinion | Refusal]:
        """An opinion on each of `asked`, or why there is none: one that cannot be judged keeps none of the others from it.

        Raises `EngineError` when the judge's weights make no number of a question.
        """
        fits = self._fit(asked, Window.judge_chat)
        opinions = iter(self._read([fit for fit in fits if isinstance(fit, _Fitted)]))
        return [next(opinions) if isinstance(fit, _Fitted) else fit for fit in fits]

    def answer(self, texts: Sequence[str], contexts: Contexts | None = None) -> list[str]:
        """The greedy answer to each of `texts` of the model that is judged: the bare base, or the fully tuned model.

        Contexts are given and cut as for `judge_many`. Raises `DataError` as that does.
        """
        asked = _asked(texts, contexts)
        fitted = _all_fitted(asked, self._fit(asked, Window.answer_chat))
        return [reply.text for reply in self._sample(fitted, Sampling())]

    def reply(self, asked: Asked, sampling: Sampling) -> Answer | Refusal:
        """The answer of the model that is judged, or why it has none; no longer than answers were in the judge's run.

        It is asked as it was in that run, after the turns of the history. Raises `EngineError` when the engine does not answer.
        """
        fit = self._fit([asked], Window.answer_chat)[0]
        if isinstance(fit, Refusal):
            return fit
        reply = self._sample([fit], sampling)[0]
        if reply.finish is Finish.ERROR:
            raise EngineError(f"the base of the judge {self.card.experiment} did not answer")
        text = min((reply.text.partition(stop)[0] for stop in sampling.stop), key=len, default=reply.text)
        finish = Finish.STOP if text != reply.text else reply.finish
        return Answer(text=text, finish=finish, num_prompt_tokens=fit.num_tokens, num_tokens=reply.num_tokens)

    def _sample(self, fitted: Sequence[_Fitted], sampling: Sampling) -> list[Reply]:
        """One reply of the model that is judged to each of `fitted`."""
        longest = self._window.max_tokens
        decoding = Decoding(
            num_trials=1,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=min(sampling.max_tokens or longest, longest),
        )
        self._answering.use(self._answerer)
        replies = self._answering.sample([fit.chat for fit in fitted], [sampling.seed] * len(fitted), decoding)
        return [trials[0] for trials in replies]

    def _read(self, fitted: Sequence[_Fitted]) -> list[Opinion]:
        card = self.card
        if not fitted:
            return []
        self._engine.use(self._judge)
        read = self._engine.judge([fit.chat for fit in fitted], card.verdict_words)
        if not np.isfinite(read).all():
            raise EngineError(f"the judge {card.experiment} reads no number at the verdict words: train it again")
        shares = verdict_shares(read)
        expected = card.calibration.forecast(shares).tolist() if card.calibration else [None] * len(fitted)
        return [
            Opinion(
                question=fit.asked.text,
                verdict=prompts.read_verdict(row.tolist(), card.label_mode),
                confidence=labeling.confidence(row.tolist(), card.label_mode),
                event=card.event,
                p_correct=p_correct,
                context_cut=fit.context_cut,
                num_tokens=fit.num_tokens,
            )
            for fit, row, p_correct in zip(fitted, shares, expected, strict=True)
        ]

    def _fit(self, asked: Sequence[Asked], prompt: Prompt) -> list[_Fitted | Refusal]:
        """Each of `asked` in the `prompt` that asks it: bare questions together, each that has a history alone."""
        bare = [i for i, one in enumerate(asked) if not one.history]
        found: dict[int, _Fitted | Refusal] = {}
        for group in [bare, *([i] for i, one in enumerate(asked) if one.history)]:
            found |= zip(group, self._fit_alike([asked[i] for i in group], prompt), strict=True)
        return [found[i] for i in range(len(asked))]

    def _fit_alike(self, asked: Sequence[Asked], prompt: Prompt) -> list[_Fitted | Refusal]:
        """As `_fit`, where all of `asked` have the same history."""
        if not asked:
            return []
        window = replace(self._window, history=asked[0].history)
        try:
            cut, _ = fit_contexts([_question(one) for one in asked], self._chat, window)
            chats = [prompt(window, question) for question in cut]
            encoded = self._chat.encode_all([chat for chat, _ in chats])
        except TemplateError as error:
            told = f"the model's chat template refuses these turns ({first_line(error)}): let user and assistant take turns"
            return [Refusal(fault="invalid_chat", reason=told)] * len(asked)
        return [
            _Fitted(asked=one, chat=chat, num_tokens=len(tokens), context_cut=one.context != fitted.context)
            if len(tokens) <= limit
            else _too_long(len(tokens), limit)
            for one, fitted, (chat, limit), tokens in zip(asked, cut, chats, encoded, strict=True)
        ]


def _started(card: JudgeCard, base: ModelRef, settings: EngineConfig, trust_remote_code: bool) -> Engine:
    """The engine of `base` for the judge of `card`."""
    spec = EngineSpec(
        base=base.name,
        device="cpu",
        mode="swap",
        max_model_len=card.max_model_len,
        cache_gib=settings.cache_gib,
        cores=cpu_count(),
        trust_remote_code=trust_remote_code,
        prefill=card.prefill,
    )
    return load_engine_factory(settings.backend)(spec)


def _check_weights(folder: Path, base: Path) -> None:
    """Raise `JudgeError` where the trained weights in the judge `folder` are no numbers, or do not fit into `base`."""
    for part in (folder / ADAPTER, folder / MODEL):
        if part.is_dir() and (name := not_finite(part)):
            raise JudgeError(f"judge {folder} has weights that are no finite numbers ({name}): train it again")
    if (folder / MODEL).is_dir() and (name := resized(folder / MODEL, base)):
        raise JudgeError(f"judge {folder} is of another model than its base, as {name} has another size: train it again")


def _too_long(num_tokens: int, limit: int) -> Refusal:
    told = (
        f"its prompt has {num_tokens} tokens, and this judge's model is given at most {limit}: shorten it, or train a judge "
        "with a larger --engine.max-model-len"
    )
    return Refusal(fault="input_too_long", reason=told)


def _all_fitted(asked: Sequence[Asked], fits: Sequence[_Fitted | Refusal]) -> list[_Fitted]:
    """`fits` of `asked`, none of which may be a refusal. Raises `DataError` that names the first that is, and why."""
    for one, fit in zip(asked, fits, strict=True):
        if isinstance(fit, Refusal):
            raise DataError(f"the question {one.text[:40]!r} cannot be asked: {fit.reason}")
    return [fit for fit in fits if isinstance(fit, _Fitted)]


def _window_of(card: JudgeCard) -> Window:
    """What prompts must fit, as in the judge's run."""
    max_tokens = int(card.decoding["max_tokens"])
    return Window(max_model_len=card.max_model_len, max_tokens=max_tokens, style=card.prompt_style, mode=card.label_mode)


def _asked(texts: Sequence[str], contexts: Contexts | None) -> list[Asked]:
    """`texts` with their contexts. Raises `DataError` unless there are as many of these as of those."""
    if contexts is not None and len(contexts) != len(texts):
        raise DataError(f"{len(contexts)} contexts for {len(texts)} questions: give each its own, or None")
    contexts = contexts or [None] * len(texts)
    return [Asked(text=text, context=context) for text, context in zip(texts, contexts, strict=True)]


def _question(asked: Asked) -> Question:
    return Question(id="", text=asked.text, answers=(), context=asked.context, split=Split.VALIDATION)
