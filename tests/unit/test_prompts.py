"""Prompts and their readers, side by side: what is asked, and what is read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from know_thyself.prompts import VERDICT_WORDS, answer_messages, extract_answer, judge_messages, read_verdict
from know_thyself.types import LabelMode, PromptStyle, Question, Verdict

PLAIN = Question(id="q1", text="What is the capital of France?", answers=("Paris",))
WITH_CONTEXT = Question(id="q2", text=PLAIN.text, answers=("Paris",), context="Paris has been the capital since 987.")


@pytest.mark.parametrize("mode", LabelMode)
def test_each_verdict_word_reads_back_as_its_verdict(mode: LabelMode) -> None:
    for index, verdict in enumerate(VERDICT_WORDS[mode]):
        one_hot = [float(index == i) for i in range(len(VERDICT_WORDS[mode]))]
        assert read_verdict(one_hot, mode) is verdict


@pytest.mark.parametrize(
    ("probabilities", "mode", "verdict"),
    [
        ([0.5, 0.5], LabelMode.BINARY, Verdict.CANNOT),
        ([0.4, 0.4, 0.2], LabelMode.UNCERTAINTY, Verdict.UNCERTAIN),
        ([0.2, 0.4, 0.4], LabelMode.UNCERTAINTY, Verdict.CANNOT),
    ],
)
def test_a_tie_goes_to_the_more_cautious_verdict(probabilities: list[float], mode: LabelMode, verdict: Verdict) -> None:
    assert read_verdict(probabilities, mode) is verdict


@pytest.mark.parametrize("mode", LabelMode)
def test_each_style_and_mode_says_which_words_it_wants(mode: LabelMode) -> None:
    for style in (PromptStyle.SYSTEM, PromptStyle.ASKED):
        request = judge_messages(PLAIN, style, mode)[0]["content"]
        assert all(word in request.replace(",", "").replace(".", "").split() for word in VERDICT_WORDS[mode].values())
    assert ("uncertain" in str(judge_messages(PLAIN, PromptStyle.SYSTEM, mode))) is (mode is LabelMode.UNCERTAINTY)


@pytest.mark.parametrize("mode", LabelMode)
@pytest.mark.parametrize("question", [PLAIN, WITH_CONTEXT], ids=["plain", "context"])
def test_the_messages_of_the_styles_differ(question: Question, mode: LabelMode) -> None:
    chats = [judge_messages(question, style, mode) for style in PromptStyle]
    assert all(left != right for i, left in enumerate(chats) for right in chats[:i])


def test_same_is_the_answer_prompt_and_system_shares_its_user_turn() -> None:
    asked = answer_messages(WITH_CONTEXT)
    assert judge_messages(WITH_CONTEXT, PromptStyle.SAME, LabelMode.BINARY) == asked
    assert judge_messages(WITH_CONTEXT, PromptStyle.SYSTEM, LabelMode.BINARY)[-1] == asked[-1]


EARLIER = ({"role": "user", "content": "Who wrote Emma?"}, {"role": "assistant", "content": "Jane Austen."})


@pytest.mark.parametrize("style", PromptStyle)
def test_a_chat_is_asked_as_a_bare_question_with_its_earlier_turns_before_it(style: PromptStyle) -> None:
    bare = judge_messages(WITH_CONTEXT, style, LabelMode.BINARY)
    chat = judge_messages(WITH_CONTEXT, style, LabelMode.BINARY, EARLIER)
    assert chat == [*bare[:-1], *EARLIER, bare[-1]]


@pytest.mark.parametrize("style", PromptStyle)
def test_a_system_text_of_the_chat_follows_ours_in_one_turn(style: PromptStyle) -> None:
    bare = judge_messages(PLAIN, style, LabelMode.BINARY)
    chat = judge_messages(PLAIN, style, LabelMode.BINARY, ({"role": "system", "content": "Be brief."}, *EARLIER))
    ours = [turn["content"] for turn in bare if turn["role"] == "system"]
    assert [turn["content"] for turn in chat if turn["role"] == "system"] == ["\n\n".join([*ours, "Be brief."])]
    assert chat[0]["role"] == "system"
    assert chat[1:] == [*EARLIER, bare[-1]]


def test_the_context_travels_into_every_prompt() -> None:
    chats = [judge_messages(WITH_CONTEXT, style, mode) for style in PromptStyle for mode in LabelMode]
    for messages in [answer_messages(WITH_CONTEXT), *chats]:
        user = messages[-1]
        assert user["role"] == "user"
        assert user["content"].index(WITH_CONTEXT.context or "absent") < user["content"].index(WITH_CONTEXT.text)
    assert "Context" not in str(answer_messages(PLAIN))


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("Paris", "Paris"),
        ("  Paris.  ", "Paris"),
        ("Paris. It is the capital of France.", "Paris"),
        ("Paris! Of course.", "Paris"),
        ("Paris... It is the capital.", "Paris"),
        ('It is called "Paris." Many live there.', 'It is called "Paris'),
        ("Let me think.\nAnswer: Lyon\nNo.\nFinal answer: Paris\nIt is.", "Paris"),
        ("**Answer:** Paris", "** Paris"),
        ("**Answer:**\n\n**Paris**", "**Paris**"),
        ("answer：東京。首都です。", "東京"),
        ("दिल्ली। यह राजधानी है।", "दिल्ली"),
        ("It is 3.14 or so. Yes", "It is 3.14 or so"),
        ("It was in 1939. Then came war.", "It was in 1939"),
        ("J. R. R. Tolkien. He wrote it.", "J. R. R. Tolkien"),
        ("St. Louis. It is in Missouri.", "St. Louis"),
        ("Chanel No. 5. A perfume.", "Chanel No. 5"),
        ("No. They are not.", "No"),
        ("He was born on Feb. 14, 1990. Then", "He was born on Feb. 14, 1990"),
        ("Martin Luther King Jr. was the speaker. Yes.", "Martin Luther King Jr. was the speaker"),
        ("Dr. Strangelove\nby Kubrick", "Dr. Strangelove"),
        ("Mount Everest. High.", "Mount Everest"),
        ("1. Paris\n2. Lyon", "1. Paris"),
        ("7. It is seven", "7. It is seven"),
        ("... Paris. Yes", "... Paris"),
        ("", ""),
        (" \n\t\n", ""),
        ("Answer:", ""),
        ("Paris\nAnswer: ", ""),
        ("🎉\n---", ""),
    ],
)
def test_extract_answer(reply: str, answer: str) -> None:
    assert extract_answer(reply) == answer


@given(st.text(st.characters(codec=None)))
def test_the_extracted_answer_is_a_stripped_line_of_the_reply(reply: str) -> None:
    answer = extract_answer(reply)
    assert answer in reply
    assert answer == answer.strip()
    assert len(answer.splitlines()) <= 1


@given(st.text(st.characters(codec=None)))
def test_a_cue_without_an_answer_after_it_extracts_nothing(reasoning: str) -> None:
    assert extract_answer(f"{reasoning}\nAnswer: \n ... ") == ""
