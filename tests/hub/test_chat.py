"""Chats as tokens, for every kind of chat template: what the template does is found out by rendering it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from know_thyself.engine.chat import ChatTokenizer
from know_thyself.engine.template import TODAY, Thinking
from know_thyself.errors import ConfigError
from know_thyself.prompts import Message, answer_messages, judge_messages, wonder_messages
from know_thyself.types import LabelMode, PromptStyle, Question
from tests import chat_models as families
from tests.chat_models import Family, write_tokenizer

WORDS = ["yes", "no", "uncertain"]
QUESTION = Question(id="q", text="What is the capital of France?", answers=("Paris",))
CHAT = answer_messages(QUESTION)
SYSTEM, USER = (turn["content"] for turn in CHAT)
FAMILIES = {name: value for name, value in vars(families).items() if isinstance(value, Family)}
Folder = Callable[[str], Path]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """The folder of a family's tokenizer, by name."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = write_tokenizer(FAMILIES[name], tmp_path_factory.mktemp(name))
        return made[name]

    return make


def pieces(chat: ChatTokenizer, ids: list[int] | tuple[int, ...]) -> list[str]:
    return [str(chat.tokenizer.decode([number])) for number in ids]


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("CHATML", "<|im_start|>assistant\n"),
        ("SWITCHED", "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        ("UNCLEAR", "<|im_start|>assistant\n"),
        ("OPENED", "<|Assistant|><think>\n\n</think>\n\n"),
        ("REFUSING", "<turn>model\n"),
        ("DROPPING", " [/INST]"),
        ("CHANNELS", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ],
)
def test_a_prompt_ends_where_the_answer_proper_begins(name: str, ending: str, folder: Folder) -> None:
    chat = ChatTokenizer(folder(name))
    assert chat.text(CHAT).partition(USER)[2].endswith(ending)
    assert str(chat.tokenizer.decode(chat.encode(CHAT))).endswith(chat.text(CHAT))


@pytest.mark.parametrize(
    ("name", "thinking", "prefill"),
    [
        ("CHATML", Thinking.NONE, ""),
        ("SWITCHED", Thinking.SWITCHED, ""),
        ("UNCLEAR", Thinking.UNCLEAR, ""),
        ("OPENED", Thinking.OPENED, "\n</think>\n\n"),
        ("CHANNELS", Thinking.CHANNEL, "<|channel|>final<|message|>"),
    ],
)
def test_how_thinking_is_kept_off_is_found_by_rendering(name: str, thinking: Thinking, prefill: str, folder: Folder) -> None:
    chat = ChatTokenizer(folder(name))
    assert (chat.template.thinking, chat.prefill) == (thinking, prefill)


def test_thinking_that_is_switched_off_but_still_opened_is_closed(tmp_path: Path) -> None:
    opening = "{% if thinking %}<think>hard {% else %}<think>{% endif %}"
    family = dataclasses.replace(families.CHATML, template=families.CHATML.template + opening, added=("<think>", "</think>"))
    chat = ChatTokenizer(write_tokenizer(family, tmp_path))
    assert chat.text(CHAT).endswith("<think>\n\n</think>\n\n")


def test_a_final_channel_that_the_template_opens_itself_is_not_opened_twice(tmp_path: Path) -> None:
    template = families.CHANNELS.template.replace("assistant{% endif %}", "assistant<|channel|>final<|message|>{% endif %}")
    chat = ChatTokenizer(write_tokenizer(dataclasses.replace(families.CHANNELS, template=template), tmp_path))
    assert chat.text(CHAT).count("<|channel|>") == 1


@pytest.mark.parametrize("name", ["SWITCHED", "OPENED", "CHANNELS"])
def test_a_given_prefill_goes_over_the_templates_own(name: str, folder: Folder) -> None:
    own, given, none = (ChatTokenizer(folder(name), False, prefill) for prefill in (None, "Answer:", ""))
    assert own.text(CHAT) == none.text(CHAT) + own.template.prefill
    assert given.text(CHAT) == none.text(CHAT) + "Answer:"


@pytest.mark.parametrize("name", ["REFUSING", "DROPPING"])
def test_a_system_text_without_a_place_goes_into_the_first_user_turn(name: str, folder: Folder) -> None:
    chat = ChatTokenizer(folder(name))
    folded: list[Message] = [{"role": "user", "content": f"{SYSTEM}\n\n{USER}"}]
    assert chat.template.folds_system
    assert chat.encode(CHAT) == chat.encode(folded)
    assert SYSTEM in chat.text(CHAT)


@pytest.mark.parametrize("name", ["CHATML", "SWITCHED", "OPENED", "CHANNELS"])
def test_a_system_text_with_a_place_stays_there(name: str, folder: Folder) -> None:
    chat = ChatTokenizer(folder(name))
    assert not chat.template.folds_system
    assert f"{SYSTEM}\n\n{USER}" not in chat.text(CHAT)
    assert chat.text(CHAT).count(SYSTEM) == 1


@pytest.mark.parametrize(
    ("name", "count"), [("OPENED", 1), ("REFUSING", 1), ("DROPPING", 1), ("CHATML", 0), ("SWITCHED", 0), ("CHANNELS", 0)]
)
def test_there_is_exactly_one_bos_where_the_tokenizer_wants_one(name: str, count: int, folder: Folder) -> None:
    chat = ChatTokenizer(folder(name))
    ids, bos = chat.encode(CHAT), chat.tokenizer.bos_token_id
    assert ids.count(bos) == count
    assert (ids[0] == bos) is bool(count)


def test_a_bos_that_the_template_writes_twice_is_there_once(tmp_path: Path) -> None:
    family = dataclasses.replace(families.OPENED, template="{{ bos_token }}" + families.OPENED.template)
    chat = ChatTokenizer(write_tokenizer(family, tmp_path))
    assert chat.text(CHAT).startswith("<|begin|><|begin|>")
    assert chat.encode(CHAT).count(chat.tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("name", FAMILIES)
def test_many_chats_become_the_tokens_that_each_becomes_alone(name: str, folder: Folder) -> None:
    chat = ChatTokenizer(folder(name))
    chats = [CHAT, [{"role": "user", "content": "Why?"}], judge_messages(QUESTION, PromptStyle.ASKED, LabelMode.BINARY)]
    assert chat.encode_all(chats) == [chat.encode(one) for one in chats]
    assert chat.encode_all([]) == []


@pytest.mark.parametrize("name", FAMILIES)
def test_a_turn_that_is_not_ended_stops_where_its_text_does(name: str, folder: Folder) -> None:
    chat, opened = ChatTokenizer(folder(name)), wonder_messages()
    text = str(chat.tokenizer.decode(chat.encode_unended(opened)))
    assert text.endswith("Question:")
    ended = chat.text([*opened[:-1], {**opened[-1], "content": "Question: Why?"}])
    assert ended.partition("Question:")[0] in text


@pytest.mark.parametrize(
    ("name", "last", "others"),
    [
        ("CHATML", "<|im_end|>", set()),
        ("OPENED", "<|end|>", set()),
        ("REFUSING", "<end>", {"</s>"}),
        ("DROPPING", "</s>", set()),
        ("CHANNELS", "<|return|>", {"<|end|>"}),
    ],
)
def test_a_reply_stops_at_what_ends_a_turn(name: str, last: str, others: set[str], folder: Folder) -> None:
    chat = ChatTokenizer(folder(name))
    assert pieces(chat, [chat.turn_end()]) == [last]
    assert set(pieces(chat, chat.stop_tokens)) == {last, *others}


def test_a_turn_that_nothing_ends_is_told_with_the_remedy(tmp_path: Path) -> None:
    endless = dataclasses.replace(families.CHATML, template="{% for m in messages %}{{ m.content }}\n{% endfor %}")
    with pytest.raises(ConfigError, match=r"no special token, so that none can be taught: .* --train.loss verdict"):
        ChatTokenizer(write_tokenizer(endless, tmp_path)).turn_end()


@pytest.mark.parametrize("prefill", [None, "Answer:"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_word_that_is_taught_begins_with_the_token_that_is_read(name: str, prefill: str | None, folder: Folder) -> None:
    chat = ChatTokenizer(folder(name), prefill=prefill)
    spoken = [chat.spoken(word) for word in WORDS]
    assert tuple(tokens[0] for tokens in spoken) == chat.word_tokens(WORDS)
    assert ["".join(pieces(chat, tokens)).strip() for tokens in spoken] == WORDS


@pytest.mark.parametrize("name", FAMILIES)
def test_verdict_words_begin_with_tokens_of_their_own(name: str, folder: Folder) -> None:
    chat = ChatTokenizer(folder(name))
    lead = " " if name == "DROPPING" else ""
    assert pieces(chat, chat.word_tokens(WORDS)) == [lead + word for word in WORDS]


def test_a_word_follows_plain_text_after_a_blank(folder: Folder) -> None:
    chat = ChatTokenizer(folder("CHATML"), False, "Answer:")
    assert pieces(chat, chat.word_tokens(WORDS)) == [" yes", " no", " uncertain"]
    assert pieces(chat, ChatTokenizer(folder("SWITCHED"), False, "</think>").word_tokens(["yes"])) == ["yes"]


def test_a_prefill_that_melts_into_the_words_is_refused_with_the_remedy(folder: Folder) -> None:
    with pytest.raises(ConfigError, match=r"melts 'yes' into the end of the prompt, .*use a prefill that ends differently"):
        ChatTokenizer(folder("CHATML"), False, "Answer: ").word_tokens(WORDS)


def test_words_that_begin_with_the_same_token_are_refused_with_the_remedy(tmp_path: Path) -> None:
    chat = ChatTokenizer(write_tokenizer(families.CHATML, tmp_path, whole_words="france"))
    with pytest.raises(ConfigError, match=r"yes, yesterday do not begin with distinct tokens after .* or another model"):
        chat.word_tokens(["yes", "yesterday"])


def test_the_prompt_does_not_change_at_midnight(folder: Folder) -> None:
    text = ChatTokenizer(folder("CHANNELS")).text(CHAT)
    assert f"Today is {TODAY:%Y-%m-%d}." in text


def test_the_digest_tells_template_and_prefill_apart_and_nothing_else(folder: Folder, tmp_path: Path) -> None:
    chats = [ChatTokenizer(folder(name)) for name in FAMILIES]
    chats.append(ChatTokenizer(folder("CHATML"), False, "Answer:"))
    assert len({chat.digest for chat in chats}) == len(chats)
    again = ChatTokenizer(write_tokenizer(families.CHANNELS, tmp_path), False, "<|channel|>final<|message|>")
    assert again.digest == ChatTokenizer(folder("CHANNELS")).digest


@pytest.mark.parametrize("style", PromptStyle)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_prompt_style_renders_in_every_family(name: str, style: PromptStyle, folder: Folder) -> None:
    chat = ChatTokenizer(folder(name))
    messages = judge_messages(QUESTION, style, LabelMode.UNCERTAINTY)
    assert all(turn["content"] in chat.text(messages) for turn in messages)


BROKEN = {
    "no template": ("", "has no chat template"),
    "does not parse": ("{% for %}", "the chat template cannot be applied"),
    "refuses the user": ("{{ raise_exception('never') }}", r"the chat template cannot be applied \(never\)"),
    "loses the user": ("{% if add_generation_prompt %}<|im_start|>{% endif %}", "does not print the user's turn"),
}


@pytest.mark.parametrize(("template", "told"), BROKEN.values(), ids=BROKEN)
def test_a_template_that_cannot_be_used_is_told_in_one_line(template: str, told: str, tmp_path: Path) -> None:
    write_tokenizer(dataclasses.replace(families.CHATML, template=template), tmp_path)
    with pytest.raises(ConfigError, match=told) as caught:
        ChatTokenizer(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("content", ["", "{}", "no json", '{"model": 3}'])
def test_a_damaged_tokenizer_is_told_in_one_line(content: str, tmp_path: Path) -> None:
    write_tokenizer(families.CHATML, tmp_path)
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ConfigError, match="has no tokenizer that can be loaded") as caught:
        ChatTokenizer(tmp_path)
    assert len(str(caught.value).splitlines()) == 1
