"""For tests: fakes with the face of the real thing, no figure of theirs a model's, and what a grader of your own must pass.

`FakeEngine` answers like a model that knows each question to a degree fixed by the question's hash, and judges with a noise
that the weights in use decide. Weights other than the base's judge with less noise, and answer as if they had forgotten a fixed
tenth of the questions: so training pays, and full fine-tuning costs. Same question, seed and weights: same output, wherever and
in whatever order it runs. `KT_FAKE_*` variables make it slow or make it fail, so that faults can be ordered from outside the
process.
"""

from __future__ import annotations

import fcntl
import hashlib
import math
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from know_thyself.asking import Answer, Asked, Opinion, Refusal, Sampling
from know_thyself.engine.protocol import Chat, Decoding, EngineSpec, Reply
from know_thyself.evaluation.calibration import ConfidenceMap
from know_thyself.evaluation.reliability import measure_reliability
from know_thyself.grading import Grader
from know_thyself.judge import JudgeCard
from know_thyself.models import resolve_model
from know_thyself.prompts import PROMPT_VERSION, VERDICT_WORDS, read_verdict
from know_thyself.types import Finish, LabelMode, ModelRef, PromptStyle

FORGOTTEN = 0.1
"""The share of all questions that tuned weights never answer right."""
NOISE, NOISE_TUNED = 0.5, 0.2
"""The part of a judgment that is chance: of the base's, and of tuned weights'."""


def _unit(*parts: object) -> float:
    """A number in [0, 1) that is a fixed function of `parts`."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def knows(question: str) -> float:
    """How likely the fake answers `question` right: a third never, a third always, a third in between."""
    return float(np.clip(3 * _unit("knows", question) - 1, 0.0, 1.0))


def forgets(question: str) -> bool:
    """Whether `question` is among those that tuned weights have forgotten."""
    return _unit("forgets", question) < FORGOTTEN


def fake_answer(question: str) -> str:
    """The answer that the fake takes for right; questions for it are made with this as accepted answer."""
    return f"value {hashlib.sha256(question.encode()).hexdigest()[:6]}"


class FakeEngine:
    """An `Engine` without a model, whose tokens are words, and that the environment gives orders to.

    `KT_FAKE_DELAY`: seconds per chat. `KT_FAKE_KILL`: a file that holds how many engines are still to die; each counts it down
    by one and dies by SIGKILL when it is to sample for the second time, so that between two deaths some work is done.
    `KT_FAKE_POISON`: a question at which every engine dies.
    """

    def __init__(self, spec: EngineSpec) -> None:
        self._base, self._model, self._longest = spec.base, ModelRef(name=spec.base), spec.max_model_len
        self._delay = float(os.environ.get("KT_FAKE_DELAY", "0"))
        self._order = os.environ.get("KT_FAKE_KILL")
        self._poison = os.environ.get("KT_FAKE_POISON")
        self._has_sampled = False
        self.tokens_read = 0

    def use(self, model: ModelRef) -> None:
        """See `Engine.use`."""
        self._model = model

    def sample(self, chats: Sequence[Chat], seeds: Sequence[int], decoding: Decoding) -> list[list[Reply]]:
        """See `Engine.sample`."""
        self._obey(chats)
        time.sleep(self._delay * len(chats))
        self._has_sampled = True
        self._count(chats)
        return [
            [self._reply(chat, seed + trial) for trial in range(decoding.num_trials)]
            for chat, seed in zip(chats, seeds, strict=True)
        ]

    def go_on(self, chats: Sequence[Chat], seeds: Sequence[int], decoding: Decoding) -> list[list[Reply]]:
        """See `Engine.go_on`: of each seed a question of its own."""
        self._count(chats)
        return [
            [
                Reply(text=f" What is thing number {seed + trial}?", finish=Finish.STOP, num_tokens=6)
                for trial in range(decoding.num_trials)
            ]
            for seed in seeds
        ]

    def judge(self, chats: Sequence[Chat], words: Sequence[str]) -> NDArray[np.float64]:
        """See `Engine.judge`."""
        self._count(chats)
        read = np.empty((len(chats), len(words)))
        share = NOISE_TUNED if self._is_tuned else NOISE
        for row, chat in zip(read, chats, strict=True):
            question = _asked(chat)
            noise = _unit("noise", question, self._model.digest)
            can = 0.02 + 0.96 * ((1 - share) * knows(question) + share * noise)
            row[:] = np.nan if self._is_too_long(chat) else np.log(_spread(can, len(words)))
        return read

    @property
    def _is_tuned(self) -> bool:
        return self._model.adapter is not None or self._model.name != self._base

    def _count(self, chats: Sequence[Chat]) -> None:
        self.tokens_read += sum(map(_words, chats))

    def _is_too_long(self, chat: Chat) -> bool:
        return _words(chat) > self._longest

    def _reply(self, chat: Chat, seed: int) -> Reply:
        if self._is_too_long(chat):
            return Reply(text="", finish=Finish.ERROR, num_tokens=0)
        question = _asked(chat)
        is_lost = self._is_tuned and forgets(question)
        right = not is_lost and _unit("trial", question, seed) < knows(question)
        return Reply(text=fake_answer(question) if right else "something else", finish=Finish.STOP, num_tokens=3)

    def _obey(self, chats: Sequence[Chat]) -> None:
        is_ordered = self._order is not None and self._has_sampled and _count_down(Path(self._order))
        if is_ordered or any(_asked(chat) == self._poison for chat in chats):
            os.kill(os.getpid(), signal.SIGKILL)


def _count_down(order: Path) -> bool:
    """Take one from the number in the file `order`, one engine at a time; False when nothing is left of it."""
    with order.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        left = int(file.read())
        file.seek(0)
        file.truncate()
        file.write(str(max(0, left - 1)))
    return left > 0


def _spread(can: float, num_words: int) -> list[float]:
    """Shares of the words, from most able to least, of one who is so sure: binomial, so that the middle word is for halves."""
    last = num_words - 1
    return [math.comb(last, place) * can ** (last - place) * (1 - can) ** place for place in range(num_words)]


def _words(chat: Chat) -> int:
    return sum(len(message["content"].split()) for message in chat)


def _asked(chat: Chat) -> str:
    """The question at the end of `chat`'s last turn."""
    return chat[-1]["content"].rpartition("Question: ")[2]


GRADER_TABLE: tuple[tuple[str, str, bool], ...] = (
    ("", "Paris", False),
    ("I do not know.", "no", False),
    ("It was in 1939.", "9", False),
    ("not Paris, it is Lyon", "Paris", False),
    ("東京", "京都", False),
    ("東京", "東京", True),
    ("Spider man", "Spider-Man", True),
    ("Beyonce", "Beyoncé", True),
    ("the Beatles", "Beatles", True),
    ("1,000", "1000", True),
)
"""What any grader must tell: a reply, the accepted answer, and whether it is right."""
ODD_REPLIES = ("\x00", "\u200b", "\ud800", "(" * 1000, "no " * 10_000, "🗼", "<|im_end|>", "\u202eabc")
"""Replies that a model can give, and that must not upset a grader."""


def check_grader(grader: Grader) -> None:
    """Hold `grader` to the contract of `--grader module:function`; for the tests of whoever writes one.

    It tells right from wrong on `GRADER_TABLE`, also when other answers are accepted besides; it returns one of the accepted
    answers as it was given, or None; and it raises on no reply. Raises `AssertionError` that lists every breach.
    """
    breaches = []
    for reply, answer, right in GRADER_TABLE:
        for answers in ([answer], ["Zanzibar", answer]):
            breaches += _breach(grader, reply, answers, {answer} if right else {None})
    for reply in ODD_REPLIES:
        breaches += _breach(grader, reply, ["Paris"], {None})
    if breaches:
        raise AssertionError("this grader breaks its contract:\n" + "\n".join(breaches))


def _breach(grader: Grader, reply: str, answers: Sequence[str], wanted: set[str | None]) -> list[str]:
    asked = f"{reply[:60]!r} to {list(answers)}"
    try:
        found = grader(reply, answers)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is listed
        return [f"{asked}: raised {type(error).__name__}: {error}"]
    return [] if found in wanted else [f"{asked}: returned {found!r}, not {next(iter(wanted))!r}"]


def fake_card(**changes: Any) -> JudgeCard:
    """The card of a judge of two verdicts that promises to be right 8 and 9 times in 10, with `changes`.

    Its calibration changes nothing: p_correct is the confidence. It is a little too sure of what it takes for likely.
    """
    claimed = np.linspace(0.02, 0.98, 193)
    unchanged = ConfidenceMap.of("temperature", [(1.0, 0.0)], "calibration", 300)
    promised = [(0.8, 0.8, 0.7), (0.9, 0.9, 0.85), (0.99, 0.95, 0.92)]
    rows = [
        {"target_accuracy": target, "reachable": target == best, "best_accuracy": best, "threshold": at, "on": "p_correct"}
        for target, best, at in promised
    ]
    card = JudgeCard(
        experiment="fake",
        epoch=1,
        base="fake",
        base_digest="b" * 64,
        prompt_version=PROMPT_VERSION,
        prompt_style=PromptStyle.SYSTEM,
        label_mode=LabelMode.BINARY,
        verdict_words=("yes", "no"),
        verdict_tokens=(1, 2),
        prefill="",
        encoding="e" * 64,
        event="k/n >= 0.5",
        label_rule="can >= 1, uncertain >= 0.5",
        decoding={"max_tokens": 8},
        max_model_len=256,
        calibration=unchanged,
        thresholds=tuple(rows),
        reliability=measure_reliability(claimed, claimed - 0.1 * claimed**3),
    )
    return card.model_copy(update=changes)


def untrained_card(model: str, **changes: Any) -> JudgeCard:
    """The card of the judge of two verdicts that `model` itself is without any training, with `changes`; not calibrated."""
    from know_thyself.engine.chat import ChatTokenizer

    base = resolve_model(model, None)
    chat, words = ChatTokenizer(base.name), tuple(VERDICT_WORDS[LabelMode.BINARY].values())
    card = JudgeCard(
        experiment="one",
        epoch=0,
        base=base.name,
        base_digest=base.digest,
        prompt_version=PROMPT_VERSION,
        prompt_style=PromptStyle.SYSTEM,
        label_mode=LabelMode.BINARY,
        verdict_words=words,
        verdict_tokens=chat.word_tokens(words),
        prefill=chat.prefill,
        encoding=chat.digest,
        event="k/n >= 0.5",
        label_rule="can >= 1, uncertain >= 0.5",
        decoding={"max_tokens": 12},
        max_model_len=128,
    )
    return card.model_copy(update=changes)


def fake_confidence(asked: Asked) -> float:
    """How sure the fake judge is of `asked`: as `knows` of the question with the turns before it."""
    said = "\n".join([*(turn["content"] for turn in asked.history), asked.text])
    return 0.02 + 0.96 * knows(said)


class FakeJudge:
    """A judge towards the service without a model, whose tokens are words, and that fails on demand.

    Of a question it says `fake_confidence`, whatever stands in the context; a context is cut to `card.max_model_len` words
    together with the rest, and a question that is longer by itself is refused. While `failure` is set, it is not ready and
    raises that. `asked` are all questions so far, call by call. None ever wait.
    """

    waiting = 0

    def __init__(self, card: JudgeCard | None = None) -> None:
        self.card = card or fake_card()
        self.failure: Exception | None = None
        self.asked: list[list[Asked]] = []

    @property
    def fault(self) -> str | None:
        """See `serve.judging.Judge`."""
        return None if self.failure is None else str(self.failure)

    def check_room(self, number: int) -> None:
        """See `serve.judging.Judge`: there is room for all."""

    async def judge(self, asked: Sequence[Asked]) -> list[Opinion | Refusal]:
        """See `serve.judging.Judge`."""
        self.asked.append(list(asked))
        if self.failure is not None:
            raise self.failure
        return self.judge_each(asked)

    def judge_each(self, asked: Sequence[Asked]) -> list[Opinion | Refusal]:
        """The same as `LocalJudge.judge_each` has it."""
        return [self._opinion(one) for one in asked]

    def _opinion(self, asked: Asked) -> Opinion | Refusal:
        room = self.card.max_model_len
        told = " ".join([*(turn["content"] for turn in asked.history), asked.text])
        needed, offered = len(told.split()), len((asked.context or "").split())
        if needed > room:
            return Refusal(fault="input_too_long", reason=f"{needed} words, and at most {room} are read: shorten it")
        confidence, card = fake_confidence(asked), self.card
        shares = _spread(confidence, len(card.verdict_words))
        return Opinion(
            question=asked.text,
            verdict=read_verdict(shares, card.label_mode),
            confidence=shares[0],
            event=card.event,
            p_correct=float(card.calibration.forecast(np.array([shares]))[0]) if card.calibration else None,
            context_cut=needed + offered > room,
            num_tokens=min(room, needed + offered),
        )


class FakeAnswerer:
    """An answerer towards the service without a model, whose tokens are words, and that fails on demand.

    It says `fake_answer`, word by word, as `sampling` has it. While `failure` is set, it raises that after `pieces` pieces.
    `asked` are all questions so far, each with its sampling.
    """

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.pieces = 0
        self.asked: list[tuple[Asked, Sampling]] = []

    async def answer(self, asked: Asked, sampling: Sampling) -> AsyncIterator[str | Answer]:
        """See `serve.answering.Answerer`."""
        self.asked.append((asked, sampling))
        words = fake_answer(asked.text).split()
        kept = words[: sampling.max_tokens]
        text = min((" ".join(kept).partition(stop)[0] for stop in sampling.stop), key=len, default=" ".join(kept))
        for place, piece in enumerate(_pieces(text)):
            if self.failure is not None and place == self.pieces:
                raise self.failure
            yield piece
        finish = Finish.LENGTH if len(kept) < len(words) else Finish.STOP
        yield Answer(text=text, finish=finish, num_prompt_tokens=len(asked.text.split()), num_tokens=len(kept))


def _pieces(text: str) -> list[str]:
    """`text` in words, each with the blank before it."""
    first, *others = text.split(" ")
    return [first, *(f" {word}" for word in others)]
