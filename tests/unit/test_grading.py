"""The grader: the adversarial table, then what must hold for any text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from know_thyself.errors import ConfigError
from know_thyself.grading import GRADER, grade, load_grader, match_alias, normalise
from know_thyself.testing import GRADER_TABLE, check_grader
from know_thyself.types import Finish, Trial

TABLE = list(GRADER_TABLE)
WORDS = [
    ("The answer is Paris.", "Paris", True),
    ("PARIS", "Paris", True),
    ("Paris, France", "Paris", True),
    ("Parisian", "Paris", False),
    ("comparison", "Paris", False),
    ("the Beatle", "Beatles", False),
    ("the Beatles", "Beatle", False),
    ("New York", "New York City", False),
    ("Lord of Rings", "The Lord of the Rings", True),
    ("Washington, D.C.", "Washington DC", True),
    ("JRR Tolkien", "J. R. R. Tolkien", True),
    ("It is St. Louis.", "St Louis", True),
    ("Simon and Garfunkel", "Simon & Garfunkel", True),
    ("Vitamin B", "Vitamin A", False),
    ("Vitamin A (retinol)", "Vitamin A", True),
    ("C team", "The A-Team", False),
    ("A Team", "The A-Team", True),
    ("The Virgin Queen", "The The", False),
    ("It's Paris", "S", False),
    ("Let me think.\n**Answer:**\nParis\nbecause", "Paris", True),
    ("Lyon. Paris is bigger.", "Paris", False),
    ("Panic! at the Disco", "Panic! at the Disco", True),
    ("Answer: a riddle", "Answer: a riddle", True),
]
NUMBERS = [
    ("in 1939", "1939", True),
    ("September 1, 1939", "1939", True),
    ("1 September 1939", "1", False),
    ("1939 to 1945", "1939", False),
    ("1939 or 1945", "1939", False),
    ("not 1939, it was 1945", "1945", True),
    ("not 1939, it was 1945", "1939", False),
    ("not until 1939", "1939", True),
    ("1000 km", "1,000", True),
    ("1000.0", "1,000", True),
    ("1.5 million", "1,500,000", True),
    ("2 million", "2", False),
    ("seven", "7", True),
    ("7", "Seven", True),
    ("no one", "1", False),
    ("-5", "5", False),
    ("\N{MINUS SIGN}5", "-5", True),
    ("3.14", "314", False),
    ("3 9", "39", False),
    ("Apollo 1", "Apollo 11", False),
    ("B52", "52", False),
    ("$1,000,000!", "1000000", True),
    ("\N{ARABIC-INDIC DIGIT THREE}", "3", True),
    ("1️⃣", "1", True),
]
YES_AND_NO = [
    ("Yes.", "yes", True),
    ("No, they are not.", "no", True),
    ("The answer is no.", "no", True),
    ("I'm not sure, but yes", "yes", True),
    ("No, I do not know", "no", False),
    ("No one", "no", False),
    ("yes or no", "yes", False),
    ("not yes", "yes", False),
    ("yes", "no", False),
]
REFUSALS = [
    ("I do not know if it is Paris", "Paris", False),
    ("I don’t know, Paris", "Paris", False),
    ("I'm not sure it is Paris", "Paris", False),
    ("Im not really sure about Paris", "Paris", False),
    ("I cannot answer whether it is Paris", "Paris", False),
    ("It cannot be determined from Paris alone", "Paris", False),
    ("There is not enough information about Paris", "Paris", False),
    ("The capital of Paris is unknown", "Paris", False),
    ("unknown", "known", False),
    ("I'm not sure, but Paris", "Paris", True),
    ("Paris, but I am not sure", "Paris", True),
    ("unknown", "unknown", True),
    ("I do not know", "I don't know / I do not know", False),
    ("It is unknown", "unknown", True),
    ("Unknown Pleasures", "Unknown Pleasures", True),
]
DENIALS = [
    ("not Paris, it is Lyon", "Lyon", True),
    ("not Paris it is Lyon", "Lyon", True),
    ("It is not Paris but Rome", "Paris", False),
    ("It is not Paris but Rome", "Rome", True),
    ("Rome, not Paris", "Rome", True),
    ("Rome (not Paris)", "Paris", False),
    ("It isn't Paris", "Paris", False),
    ("Paris is not the answer", "Paris", False),
    ("It can't be Paris", "Paris", False),
    ("I don't think that it is Paris", "Paris", False),
    ("neither Paris nor Lyon", "Lyon", False),
    ("Rome rather than Paris", "Paris", False),
    ("not only Paris", "Paris", True),
    ("No, Paris", "Paris", True),
    ("Not Afraid by Eminem", "Not Afraid", True),
    ("No Country for Old Men by Cormac McCarthy", "Cormac McCarthy", True),
    ("Paris or Lyon", "Paris", False),
    ("Lyon or Paris", "Paris", False),
    ("It is Trick or Treat", "Trick or Treat", True),
    ("It is not Trick or Treat", "Trick or Treat", False),
    ("I do not know if it is Not Afraid", "Not Afraid", False),
]
SCRIPTS = [
    ("東京都", "東京", False),
    ("Tokyo (東京)", "東京", True),
    ("東京。日本の首都です。", "東京", True),
    ("村上 春樹", "村上春樹", True),
    ("ﾄｳｷｮｳ", "トウキョウ", True),
    ("か", "が", False),
    ("Москва", "москва", True),
    ("и", "й", False),
    ("दिल्ली", "दिल", False),
    ("दिल्ली।", "दिल्ली", True),
    ("\u200fפריז\u200e.", "פריז", True),
    ("باريس، فرنسا", "باريس", True),
    ("Lech Walesa", "Lech Wałęsa", True),
    ("Sodertalje", "So\u0308derta\u0308lje", True),
    ("STRASSE", "Straße", True),
    ("Pa\u200bri\u00ads", "Paris", True),
    ("Paris 🎉", "Paris", True),
    ("Ｐａｒｉｓ", "Paris", True),
    ("🎉", "🎊", False),
    ("☀️", "❤️", False),
    ("It is Pa\ud800ris", "Paris", False),
    ("Paris\udfff", "Paris", True),
    ("...", "???", False),
    ("!", "", False),
]


@pytest.mark.parametrize(
    ("reply", "accepted", "right"), TABLE + WORDS + NUMBERS + YES_AND_NO + REFUSALS + DENIALS + SCRIPTS, ids=ascii
)
def test_the_adversarial_table(reply: str, accepted: str, right: bool) -> None:
    assert match_alias(reply, [accepted]) == (accepted if right else None)


def test_the_accepted_answer_that_was_hit_is_named_as_it_was_given() -> None:
    assert match_alias("the  PARIS!", ["Lyon", "The Paris", "Paris"]) == "The Paris"
    assert match_alias("Paris or Paname", ["Paname", "Paris"]) == "Paris"
    assert match_alias("Paris", []) is None


def test_normalise_keeps_articles_on_request() -> None:
    assert normalise("  The  Rock & Roll—café, 1,000.5 a day.") == "rock and roll cafe 1000.5 day"
    assert normalise("The A-Team", articles=True) == "the a team"


UNITS = ["a ", ".", "1,", "the ", "not ", "or ", "but ", "St. ", "answer ", "5 million ", ")!", "\n", "é", "\u0316\u0301", "- "]


@pytest.mark.parametrize("unit", UNITS, ids=ascii)
def test_long_replies_are_graded(unit: str) -> None:
    filler = unit * (100_000 // len(unit))
    assert match_alias(filler + "x", ["Paris", "7", "no", "Trick or Treat"]) is None
    assert match_alias(f"{filler}\nAnswer: Paris", ["Paris"]) == "Paris"


def test_long_accepted_answers_grade_themselves() -> None:
    for accepted in ("Paris " * 2_000, "9" * 10_000, "東" * 10_000):
        assert match_alias(accepted, [accepted]) == accepted


ANY_TEXT = st.text(st.characters(codec=None), max_size=60)
PIECES = ("Paris", "1,000", "-5", "not", "or", "but", "I do not know", "no", "the", "Answer:", ".", ", ", "\n", "東京")
ANSWER_LIKE = st.lists(st.sampled_from(PIECES) | ANY_TEXT, max_size=8).map(" ".join)
SAMPLES = ("Paris", "not Paris", "Lyon", "1,000", "7", "yes", "no", "東京", "Москва", "I do not know", "Paris or Lyon")


@given(ANSWER_LIKE, st.lists(ANSWER_LIKE, max_size=4))
def test_any_text_is_graded_and_only_accepted_answers_are_hit(reply: str, answers: list[str]) -> None:
    matched = match_alias(reply, answers)
    assert matched is None or matched in answers


@given(ANSWER_LIKE.filter(normalise))
def test_an_accepted_answer_grades_itself_right(accepted: str) -> None:
    assert match_alias(accepted, [accepted]) == accepted


@given(st.sampled_from(["", " ", "\n", "\u200b", "...", "Answer: ", "🎉"]), st.lists(ANSWER_LIKE, max_size=4))
def test_an_empty_reply_is_wrong(reply: str, answers: list[str]) -> None:
    assert match_alias(reply, answers) is None


@given(
    st.sampled_from(SAMPLES),
    st.sampled_from(SAMPLES),
    st.sampled_from(["", " ", '"', "\n ", "**"]),
    st.sampled_from(["", ".", "!", " \n", '."', "**"]),
    st.sampled_from([str.upper, str.lower, str.title]),
)
def test_case_space_and_punctuation_around_a_reply_change_nothing(
    reply: str, accepted: str, before: str, after: str, recase: Callable[[str], str]
) -> None:
    assert match_alias(f"{before}{recase(reply)}{after}", [accepted]) == match_alias(reply, [accepted])


def trial(text: str, finish: Finish = Finish.STOP) -> Trial:
    return Trial(question_id="q1", index=3, seed=0, text=text, finish=finish, num_tokens=1)


@pytest.mark.parametrize("finish", [Finish.STOP, Finish.LENGTH])
def test_a_finished_or_cut_trial_is_graded(finish: Finish) -> None:
    right, wrong = (grade(trial(text, finish), ["Paris"]) for text in ("Paris", "Lyon"))
    assert (right.question_id, right.trial_index, right.grader) == ("q1", 3, GRADER)
    assert (right.correct, right.matched) == (True, "Paris")
    assert (wrong.correct, wrong.matched) == (False, None)


def test_a_failed_trial_is_never_graded_whatever_its_text() -> None:
    failed = grade(trial("Paris", Finish.ERROR), ["Paris"])
    assert (failed.correct, failed.matched) == (None, None)


def test_a_custom_grader_is_called_and_named() -> None:
    def first(reply: str, answers: Sequence[str]) -> str | None:
        return answers[0] if reply == "guess" else None

    assert grade(trial("guess"), ["Paris"], first, "first-1").matched == "Paris"
    assert grade(trial("Paris"), ["Paris"], first, "first-1").grader == "first-1"


def test_graders_are_loaded_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_grader.py").write_text("def always(reply, answers):\n    return answers[0]\n\nnumber = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_grader("alias") == (match_alias, GRADER)
    grader, name = load_grader("own_grader:always")
    assert grader("Lyon", ["Paris"]) == "Paris"
    assert re.fullmatch(r"own_grader:always@[0-9a-f]{12}", name)
    (tmp_path / "own_grader.py").write_text("def always(reply, answers):\n    return answers[-1]\n\nnumber = 3\n")
    assert load_grader("own_grader:always")[1] != name, "the grades of a grader that was changed would pass for its own"
    with pytest.raises(ConfigError, match=r"own_grader:number.*name a function"):
        load_grader("own_grader:number")


@pytest.mark.parametrize("spec", ["", "exact", ":f", "m:", ".m:f", "no_such_module:f", "json:no_such_function"])
def test_a_grader_that_cannot_be_had_is_refused_with_value_and_remedy(spec: str) -> None:
    with pytest.raises(ConfigError, match=r"(use|check)") as refused:
        load_grader(spec)
    assert repr(spec) in str(refused.value)


def test_the_built_in_grader_keeps_the_contract_of_graders() -> None:
    check_grader(match_alias)


def contained(reply: str, answers: Sequence[str]) -> str | None:
    """A lax grader: whatever contains an answer or is contained in one."""
    return next((answer for answer in answers if reply in answer or answer in reply), None)


def raising(reply: str, answers: Sequence[str]) -> str | None:
    if not reply:
        raise LookupError("an empty reply\nhas nothing to grade")
    return match_alias(reply, answers)


def truthful(reply: str, answers: Sequence[str]) -> bool:
    return match_alias(reply, answers) is not None


@pytest.mark.parametrize(
    ("grader", "told"),
    [
        (contained, r"'' to \['Paris'\]: returned 'Paris', not None"),
        (raising, "raised LookupError: an empty reply"),
        (truthful, "returned True, not 'Beatles'"),
        (lambda reply, answers: answers[0], "returned 'Zanzibar', not 'Paris'|returned 'Paris', not None"),
        (lambda reply, answers: None, "returned None, not 'Beyoncé'"),
    ],
)
def test_a_grader_that_breaks_the_contract_is_told_where(grader: Any, told: str) -> None:
    with pytest.raises(AssertionError, match=told):
        check_grader(grader)


def test_a_failure_of_a_strangers_grader_is_one_ungraded_trial_with_its_reason() -> None:
    asked = [
        Trial(question_id="q", index=i, seed=i, text=text, finish=Finish.STOP, num_tokens=1)
        for i, text in enumerate(("", "Paris"))
    ]
    grades = [grade(trial, ["Paris"], raising, "mine") for trial in asked]
    assert [(g.correct, g.matched) for g in grades] == [(None, None), (True, "Paris")]
    assert [g.fault for g in grades] == ["the grader raised LookupError: an empty reply", None]
    told = grade(asked[1], ["Paris"], truthful, "mine")  # type: ignore[arg-type]
    assert (told.correct, told.fault) == (None, "the grader returned a bool, neither an accepted answer nor None")
