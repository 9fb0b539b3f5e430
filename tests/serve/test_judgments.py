"""What is asked and what comes back: texts, chats and lists, contexts, thresholds, and what is wrong with one of many."""

from __future__ import annotations

from typing import Any

import pytest

from know_thyself.asking import Asked
from know_thyself.evaluation.calibration import ClassMap
from know_thyself.testing import FakeJudge, fake_card, fake_confidence
from know_thyself.wire import MAX_CHARACTERS, MAX_INPUTS, Bar, JudgmentItem, JudgmentResponse
from tests.serve.apps import (
    CHAT,
    HALF,
    HISTORY,
    KEYS,
    ROUTE,
    SURE,
    UNSURE,
    bearer,
    policy_of,
    post,
    served,
    three_verdicts,
)


def ask(judge: FakeJudge | None = None, **body: Any) -> JudgmentResponse:
    """What the service says to `body`."""
    answer = post(served(judge), body)
    assert answer.status_code == 200, answer.text
    return JudgmentResponse.model_validate_json(answer.content)


def item(judge: FakeJudge | None = None, **body: Any) -> JudgmentItem:
    """The one judgment that the service gives on `body`."""
    (found,) = ask(judge, **body).data
    assert isinstance(found, JudgmentItem)
    return found


def error(client: Any, **body: Any) -> tuple[int, dict[str, Any]]:
    """The status and the error object that `body` gets."""
    answer = post(client, body)
    return answer.status_code, answer.json()["error"]


def test_a_question_gets_a_judgment_of_the_promised_shape() -> None:
    answer = served().post(ROUTE, json={"input": SURE}).json()
    card = fake_card()
    assert answer.pop("id").startswith("jdg-")
    assert answer.pop("created") > 1_700_000_000
    assert answer == {
        "object": "judgment",
        "model": "kt/fake",
        "judge_digest": card.digest[:12],
        "event": "k/n >= 0.5",
        "calibration": {"id": card.calibration.id if card.calibration else "", "fitted_on": "calibration", "n": 300},
        "data": [
            {
                "index": 0,
                "verdict": "can",
                "p_correct": pytest.approx(fake_confidence(Asked(text=SURE))),
                "decision": "answer",
                "threshold": 0.5,
                "threshold_source": "default",
                "context_cut": False,
            }
        ],
        "usage": {"input_tokens": 4, "output_tokens": 0, "total_tokens": 4},
    }


def test_every_judgment_has_an_id_of_its_own() -> None:
    assert ask(input=SURE).id != ask(input=SURE).id


@pytest.mark.parametrize(
    ("sent", "asked"),
    [
        (" Who?\n", [Asked(text="Who?")]),
        (["Who?", "Where?"], [Asked(text="Who?"), Asked(text="Where?")]),
        (["Who?"], [Asked(text="Who?")]),
        (CHAT, [Asked(text="Where was she born?", history=tuple(HISTORY))]),
        ([CHAT, "Who?"], [Asked(text="Where was she born?", history=tuple(HISTORY)), Asked(text="Who?")]),
        ([CHAT], [Asked(text="Where was she born?", history=tuple(HISTORY))]),
        (
            [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Who?"}]}],
            [Asked(text="Who?", history=({"role": "system", "content": "Be brief."},))],
        ),
    ],
    ids=["text", "texts", "list of one", "chat", "chat and text", "list of one chat", "parts and developer"],
)
def test_a_list_is_one_chat_only_where_every_item_has_a_role(sent: Any, asked: list[Asked]) -> None:
    judge = FakeJudge()
    assert [said.index for said in ask(judge, input=sent).data] == list(range(len(asked)))
    assert judge.asked == [asked]


def test_the_turns_before_the_question_are_judged_with_it() -> None:
    alone, after = item(input=CHAT[-1]["content"]), item(input=CHAT)
    assert after.p_correct == pytest.approx(fake_confidence(Asked(text=CHAT[-1]["content"], history=tuple(HISTORY))))
    assert after.p_correct != alone.p_correct


@pytest.mark.parametrize(
    ("context", "seen"),
    [
        (None, [None, None]),
        ("  ", [None, None]),
        ("Quorn. ", ["Quorn.", "Quorn."]),
        (["Quorn.", None], ["Quorn.", None]),
        (["", "Quorn."], [None, "Quorn."]),
    ],
)
def test_a_context_is_for_all_inputs_or_for_each_its_own(context: Any, seen: list[str | None]) -> None:
    judge = FakeJudge()
    ask(judge, input=["Who?", "Where?"], context=context)
    assert [asked.context for asked in judge.asked[0]] == seen


@pytest.mark.parametrize("context", [[], ["Quorn."], ["Quorn."] * 3])
def test_contexts_as_many_as_inputs_or_none_are_judged(context: list[str]) -> None:
    judge = FakeJudge()
    status, told = error(served(judge), input=["Who?", "Where?"], context=context)
    assert (status, told["code"], told["param"]) == (400, "context_count", "context")
    assert f"{len(context)} contexts for 2 inputs" in told["message"]
    assert judge.asked == []


def test_a_cut_context_is_told_of_the_input_that_it_was_cut_for() -> None:
    answer = ask(input=["Who?", "Where?"], context=["word " * 300, "word " * 10])
    assert [said.context_cut for said in answer.data if isinstance(said, JudgmentItem)] == [True, False]
    assert answer.usage.input_tokens == 256 + 11


WRONG: dict[str, tuple[Any, str]] = {
    "empty": ("", "empty_input"),
    "blank": (" \n\u3000", "empty_input"),
    "too many characters": ("x" * (MAX_CHARACTERS + 1), "input_too_long"),
    "too many tokens": ("x " * 257, "input_too_long"),
    "half a character": ("a \ud800 b", "invalid_text"),
    "ends with the assistant": (CHAT[:-1], "invalid_chat"),
    "last turn blank": ([*HISTORY, {"role": "user", "content": " "}], "empty_input"),
    "no parts": ([{"role": "user", "content": []}], "empty_input"),
}


@pytest.mark.parametrize(("wrong", "code"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_one_input_is_told_in_its_place(wrong: Any, code: str) -> None:
    first, second, third = ask(input=[SURE, wrong, CHAT]).data
    assert isinstance(first, JudgmentItem)
    assert isinstance(third, JudgmentItem)
    assert not isinstance(second, JudgmentItem)
    assert (first.index, second.index, third.index) == (0, 1, 2)
    assert (second.error.code, second.error.param, second.error.type) == (code, "input.1", "invalid_request_error")
    assert first == item(input=SURE)


@pytest.mark.parametrize(("wrong", "code"), WRONG.values(), ids=WRONG)
def test_a_single_input_that_is_wrong_is_refused(wrong: Any, code: str) -> None:
    status, told = error(served(), input=wrong)
    assert (status, told["code"], told["param"], told["type"]) == (400, code, "input", "invalid_request_error")


def test_an_empty_chat_in_a_list_is_wrong_in_its_place() -> None:
    empty, good = ask(input=[[], SURE]).data
    assert not isinstance(empty, JudgmentItem)
    assert empty.error.code == "invalid_chat"
    assert isinstance(good, JudgmentItem)


def test_nothing_longer_than_it_may_be_reaches_the_judge() -> None:
    judge = FakeJudge()
    long = "x" * (MAX_CHARACTERS - 4)
    ask(judge, input=["Who?", "Where?", [{"role": "system", "content": long}, *CHAT]], context=[long, long, None])
    assert [[asked.text for asked in call] for call in judge.asked] == [["Who?"]]
    error(served(judge), input="Where?", context=long)
    ask(judge, input=["", ""])
    assert len(judge.asked) == 1


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": None}, "input"),
        ({"input": 3}, "input"),
        ({"input": {}}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a"] * (MAX_INPUTS + 1)}, "input"),
        ({"input": ["a", 3]}, "input.1"),
        ({"input": [{"content": "a"}]}, "input.0"),
        ({"input": [*CHAT, "a"]}, "input.0"),
        ({"input": [{"role": "tool", "content": "a"}]}, "input.0.role"),
        ({"input": [{"role": "user", "content": "a", "name": "b"}]}, "input.0.name"),
        ({"input": [[{"role": "user"}], "b"]}, "input.0.0.content"),
        ({"input": [{"role": "user", "content": 3}]}, "input.0.content"),
        ({"input": "a", "context": 3}, "context"),
        ({"input": "a", "surprise": 1}, "surprise"),
        ({"input": "a", "y" * 200: 1}, "y" * 100),
        ({"input": "a", "threshold": 1.01}, "threshold"),
        ({"input": "a", "threshold": "high"}, "threshold"),
        ({"input": "a", "target_accuracy": 1}, "target_accuracy"),
        ({"input": "a", "threshold": 0.5, "target_accuracy": 0.9}, "body"),
        ({"input": "a", "model": "x" * 129}, "model"),
    ],
)
def test_a_request_of_another_shape_is_refused_at_its_place(body: dict[str, Any], param: str) -> None:
    judge = FakeJudge()
    status, told = error(served(judge), **body)
    assert (status, told["param"], told["type"]) == (422, param, "invalid_request_error")
    assert told["message"].startswith(f"{param}: ")
    assert judge.asked == []


def test_as_many_inputs_as_may_be_are_judged_in_their_order() -> None:
    texts = [f"What is thing {i}?" for i in range(MAX_INPUTS)]
    said = [one for one in ask(input=texts).data if isinstance(one, JudgmentItem)]
    assert [one.p_correct for one in said] == pytest.approx([fake_confidence(Asked(text=text)) for text in texts])
    assert [one.index for one in said] == list(range(MAX_INPUTS))


def test_only_the_judge_that_is_served_can_be_asked() -> None:
    assert ask(input=SURE, model="kt/fake").model == "kt/fake"
    status, told = error(served(), input=SURE, model="../kt/fake")
    assert (status, told["code"], told["type"], told["param"]) == (404, "model_not_found", "not_found_error", "model")


def test_the_decision_follows_the_threshold_and_the_policy_says_what_is_below() -> None:
    for below in ("escalate", "abstain"):
        client = served(policy=policy_of(0.5, below=below))
        answer = client.post(ROUTE, json={"input": [SURE, UNSURE]}).json()["data"]
        assert [said["decision"] for said in answer] == ["answer", below]


def test_a_question_at_the_threshold_passes() -> None:
    p_correct = item(input=HALF).p_correct
    assert p_correct is not None
    assert item(input=HALF, threshold=p_correct).decision == "answer"
    assert item(input=HALF, threshold=p_correct + 1e-9).decision == "escalate"


def test_the_request_goes_before_the_key_the_key_before_the_route_the_route_before_the_default() -> None:
    policy = policy_of(0.1, routes={ROUTE: Bar(threshold=0.2)})
    client = served(policy=policy, keys=KEYS)

    def source(caller: str, **more: Any) -> tuple[float, str]:
        said = client.post(ROUTE, json={"input": SURE, **more}, headers=bearer(caller)).json()["data"][0]
        return said["threshold"], said["threshold_source"]

    assert source("strict", threshold=0.4) == (0.4, "request")
    assert source("strict", target_accuracy=0.9) == (0.85, "request")
    assert source("strict") == (0.97, "key")
    assert source("judge") == (0.2, "route")
    bare = served(policy=policy_of(0.1), keys=KEYS).post(ROUTE, json={"input": SURE}, headers=bearer("judge")).json()
    assert bare["data"][0]["threshold_source"] == "default"


def test_an_accuracy_that_cannot_be_promised_is_told_with_those_that_can() -> None:
    status, told = error(served(), input=SURE, target_accuracy=0.96)
    assert (status, told["code"], told["param"]) == (400, "not_reachable", "target_accuracy")
    assert told["message"] == "target_accuracy=0.96 is not reachable with this judge; reachable: 0.8, 0.9, 0.95"


def test_a_judge_that_is_not_calibrated_shows_no_number_and_lets_nothing_pass() -> None:
    judge = FakeJudge(fake_card(calibration=None, thresholds=()))
    answer = ask(judge, input=[SURE, UNSURE])
    assert answer.calibration is None
    for said, verdict in zip(answer.data, ("can", "cannot"), strict=True):
        assert isinstance(said, JudgmentItem)
        assert (said.verdict, said.p_correct, said.decision) == (verdict, None, "escalate")
        assert (said.threshold, said.threshold_source) == (None, "none")
    status, told = error(served(judge), input=SURE, threshold=0.5)
    assert (status, told["param"]) == (400, "threshold")
    assert "not calibrated" in told["message"]


@pytest.mark.parametrize("calibration", [None, ClassMap.of((0.9, 0.5, 0.1), "calibration", 300)], ids=["none", "classes"])
def test_a_promise_on_the_confidence_decides_and_is_not_shown_as_a_probability(calibration: ClassMap | None) -> None:
    judge = FakeJudge(three_verdicts(calibration=calibration))
    sure, unsure = ask(judge, input=[SURE, UNSURE], target_accuracy=0.9).data
    assert isinstance(sure, JudgmentItem)
    assert isinstance(unsure, JudgmentItem)
    assert (sure.decision, unsure.decision) == ("answer", "escalate")
    assert (sure.threshold, sure.threshold_source) == (None, "request")
    assert (sure.p_correct is None) == (calibration is None)
