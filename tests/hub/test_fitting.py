"""Contexts are cut so that every prompt fits, as little as that takes, and questions are never touched."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from know_thyself.engine.chat import ChatTokenizer
from know_thyself.engine.fitting import Window, fit_contexts
from know_thyself.engine.protocol import Chat
from know_thyself.models import packaged_world
from know_thyself.types import LabelMode, PromptStyle, Question, Split

LIMIT, ANSWER = 128, 12
WORDS = "Sisun Nosix was born in Quorn, played the bassoon; and 1939 came. Größe 東京 "


@pytest.fixture(scope="module")
def chat() -> ChatTokenizer:
    return ChatTokenizer(packaged_world() / "model")


@pytest.fixture(scope="module")
def slow_chat(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    """A tokenizer in Python, without offsets: one token for each byte."""
    from transformers import ByT5Tokenizer

    folder = tmp_path_factory.mktemp("slow")
    tokenizer = ByT5Tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.role[0] }} {{ m.content }}\n{% endfor %}a "
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "t5"}))
    chat = ChatTokenizer(folder)
    assert not chat.tokenizer.is_fast
    return chat


def window(style: PromptStyle = PromptStyle.SYSTEM, limit: int = LIMIT, answer: int = ANSWER) -> Window:
    return Window(max_model_len=limit, max_tokens=answer, style=style, mode=LabelMode.BINARY)


def question(context: str | None, text: str = "Where was Sisun Nosix born?", split: str = Split.TRAIN) -> Question:
    return Question(id=f"{len(context or '')}", text=text, answers=("Quorn",), context=context, split=split)


def longest(chat: ChatTokenizer, asked: Question, space: Window) -> int:
    """The tokens by which the prompts of `asked` are too long; none or fewer when they fit."""
    return max(len(chat.encode(messages)) - limit for messages, limit in space.chats(asked))


@pytest.mark.parametrize("style", PromptStyle)
@pytest.mark.parametrize("answer", [2, 60])
def test_every_prompt_fits_and_little_is_lost(style: PromptStyle, answer: int, chat: ChatTokenizer) -> None:
    space = window(style, limit=LIMIT + answer, answer=answer)
    asked = [question(WORDS * n, f"Where{'?' * (n % 5)}") for n in range(1, 40)]
    fitted, cut = fit_contexts(asked, chat, space)
    assert 10 < cut[Split.TRAIN] < 39
    assert cut[Split.TRAIN] == sum(old != new for old, new in zip(asked, fitted, strict=True))
    for old, new in zip(asked, fitted, strict=True):
        assert longest(chat, new, space) <= 0
        assert dataclasses.replace(old, context=new.context) == new
        assert (old.context or "").startswith(new.context or "?")
        if old != new:
            assert longest(chat, new, space) > -24, "more was cut than had to be"


def test_a_cut_falls_between_words(chat: ChatTokenizer) -> None:
    words = WORDS.split()
    fitted, _ = fit_contexts([question(WORDS * n) for n in range(10, 30)], chat, window())
    assert {word for new in fitted for word in (new.context or "").split()} <= set(words)


def test_a_script_without_spaces_is_cut_between_characters(chat: ChatTokenizer) -> None:
    fitted, cut = fit_contexts([question("東京" * 400)], chat, window())
    assert cut == {Split.TRAIN: 1}
    assert len(fitted[0].context or "") > 10
    assert longest(chat, fitted[0], window()) <= 0


def test_what_fits_is_left_as_it_is_and_cuts_are_counted_by_split(chat: ChatTokenizer) -> None:
    asked = [question(None), question("Short."), question(WORDS * 40, split=Split.DEV), question(WORDS * 50, split=Split.DEV)]
    fitted, cut = fit_contexts(asked, chat, window())
    assert fitted[:2] == tuple(asked[:2])
    assert cut == {Split.DEV: 2}
    assert fit_contexts(fitted, chat, window()) == (fitted, {})


def test_a_question_that_leaves_no_room_keeps_its_text_and_loses_its_context(chat: ChatTokenizer) -> None:
    asked = question(WORDS, text=WORDS * 20)
    fitted, cut = fit_contexts([asked], chat, window())
    assert (fitted[0].text, fitted[0].context, cut) == (asked.text, None, {Split.TRAIN: 1})


def test_a_tokenizer_without_offsets_cuts_alike(slow_chat: ChatTokenizer) -> None:
    space = window(limit=400)
    asked = [question(WORDS * n) for n in (1, 3, 30)]
    fitted, cut = fit_contexts(asked, slow_chat, space)
    assert fitted[0] == asked[0]
    assert cut[Split.TRAIN] >= 1
    assert all(-40 < longest(slow_chat, new, space) <= 0 for new in fitted[-1:])


def test_many_contexts_are_cut_in_few_calls_of_the_tokenizer(chat: ChatTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """One by one, the contexts of HotpotQA take several times as long."""
    asked = [question(WORDS * (10 + n % 30)) for n in range(600)]
    alone = [fit_contexts([one], chat, window())[0][0] for one in asked[:30]]
    calls: list[int] = []
    whole = type(chat.tokenizer).__call__

    def counted(self: Any, text: Any, *rest: Any, **settings: Any) -> Any:
        calls.append(1 if isinstance(text, str) else len(text))
        return whole(self, text, *rest, **settings)

    monkeypatch.setattr(type(chat.tokenizer), "__call__", counted)
    fitted, cut = fit_contexts(asked, chat, window())
    assert cut == {Split.TRAIN: 600}
    assert list(fitted[:30]) == alone
    assert len(calls) < 20 < max(calls)


def test_a_context_full_of_marks_is_cut_to_the_character_without_ever_reading_much_more(
    chat: ChatTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark, read = "<|im_end|>", list[int]()
    encode_all = chat.encode_all

    def counting(chats: Sequence[Chat]) -> list[list[int]]:
        read.extend(sum(len(turn["content"]) for turn in one) for one in chats)
        return encode_all(chats)

    monkeypatch.setattr(chat, "encode_all", counting)
    asked = [question(mark * 3000, f"Where{'?' * n}") for n in range(1, 9)]
    fitted, _ = fit_contexts(asked, chat, window())
    monkeypatch.undo()
    for before, after in zip(asked, fitted, strict=True):
        assert longest(chat, after, window()) <= 0
        assert after.context is not None
        more = dataclasses.replace(after, context=before.context[: len(after.context) + len(mark)])  # type: ignore[index]
        assert longest(chat, more, window()) > 0
    assert max(read) < 3 * LIMIT * len(mark)


@pytest.mark.parametrize("beyond", range(-4, 5))
@pytest.mark.timeout(60)
def test_a_search_ends_where_hardly_any_room_is_left(chat: ChatTokenizer, beyond: int) -> None:
    asked = question("<|im_end|>" * 50, "?")
    bare = longest(chat, dataclasses.replace(asked, context=None), window())
    tight = window(limit=LIMIT + bare + beyond)
    (fitted,), _ = fit_contexts([asked], chat, tight)
    assert fitted.context is None or longest(chat, fitted, tight) <= 0


def test_the_questions_of_a_run_are_cut_before_anything_is_asked(tmp_path: Path) -> None:
    from know_thyself.config import DataConfig, EngineConfig, RunConfig, SamplingConfig
    from know_thyself.pipelines.inputs import check_inputs, window_of

    for split, count in (("train", 30), ("validation", 5)):
        rows = [{"question": f"{split} {i}?", "answers": ["a"], "context": WORDS * (1 + 20 * (i % 2))} for i in range(count)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = RunConfig(
        dataset=str(tmp_path),
        data=DataConfig(least=1),
        engine=EngineConfig(max_model_len=LIMIT),
        sampling=SamplingConfig(max_tokens=ANSWER),
    )
    inputs = check_inputs(config)
    chat = ChatTokenizer(inputs.base.name)
    assert inputs.context_cut[Split.VALIDATION] == 2
    assert sum(inputs.context_cut.values()) == 15 + 2
    assert all(longest(chat, asked, window_of(config)) <= 0 for asked in inputs.questions.questions)
