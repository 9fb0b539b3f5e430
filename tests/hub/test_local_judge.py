"""A judge in this process asks as its run did: contexts are cut alike, and what cannot fit is refused in one line."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from jinja2 import TemplateError
from numpy.typing import NDArray
from rich.console import Console
from typer.testing import CliRunner

from know_thyself import prompts
from know_thyself.asking import Answer, Asked, Opinion, Refusal, Sampling
from know_thyself.cli import app, experiments
from know_thyself.client import local
from know_thyself.client.local import LocalJudge
from know_thyself.engine import vllm
from know_thyself.engine.chat import ChatTokenizer
from know_thyself.engine.fitting import Window, fit_contexts
from know_thyself.engine.protocol import Chat, Decoding, EngineSpec, Reply
from know_thyself.errors import DataError, EngineError
from know_thyself.judge import ADAPTER, read_judge, write_judge
from know_thyself.models import resolve_model
from know_thyself.testing import FakeEngine, untrained_card
from know_thyself.types import Finish, LabelMode, ModelRef, PromptStyle, Question, Split
from serve.api import create_app
from serve.auth import Keys
from serve.local import batching
from serve.policy import read_policy

LIMIT, ANSWER = 128, 12
QUESTION = "Where was Sisun Nosix born?"
SHORT, LONG = "Sisun Nosix was born in Quorn.", "Sisun Nosix was born in Quorn; and 1939 came. Größe 東京 " * 40


class Recorder(FakeEngine):
    """The fake engine, with what it was started with and all that it was asked."""

    def __init__(self, spec: EngineSpec) -> None:
        super().__init__(spec)
        self.spec = spec
        self.judged: list[Chat] = []
        self.sampled: list[Chat] = []

    def judge(self, chats: Sequence[Chat], words: Sequence[str]) -> NDArray[np.float64]:
        self.judged += chats
        return super().judge(chats, words)

    def sample(self, chats: Sequence[Chat], seeds: Sequence[int], decoding: Decoding) -> list[list[Reply]]:
        self.sampled += chats
        return super().sample(chats, seeds, decoding)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Recorder]:
    """The engines that were started, in the place of real ones."""
    engines: list[Recorder] = []

    def start(spec: EngineSpec) -> Recorder:
        engines.append(Recorder(spec))
        return engines[-1]

    monkeypatch.setattr(local, "load_engine_factory", lambda _: start)
    return engines


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The untrained judge of an experiment `one` whose run read at most `LIMIT` tokens."""
    card = untrained_card("world", decoding={"max_tokens": ANSWER}, max_model_len=LIMIT)
    (tmp_path / "one" / "logs").mkdir(parents=True)
    (tmp_path / "one" / "config.json").write_text("{}")
    write_judge(tmp_path / "one" / "judge", card, None)
    return tmp_path / "one" / "judge"


def in_the_run(context: str | None) -> Question:
    """The question as the run of the judge asks it."""
    window = Window(max_model_len=LIMIT, max_tokens=ANSWER, style=PromptStyle.SYSTEM, mode=LabelMode.BINARY)
    asked = Question(id="a", text=QUESTION, answers=("Quorn",), context=context, split=Split.TRAIN)
    return fit_contexts([asked], ChatTokenizer(resolve_model("world", None).name), window)[0][0]


def test_contexts_are_asked_and_cut_as_in_the_run(folder: Path, started: list[Recorder]) -> None:
    contexts = [None, SHORT, LONG]
    with LocalJudge(folder) as judge:
        opinions = judge.judge_many([QUESTION] * 3, contexts)
        judge.answer([QUESTION] * 3, contexts)
    assert [opinion.context_cut for opinion in opinions] == [False, False, True]
    engine, asked = started[0], [in_the_run(context) for context in contexts]
    assert engine.spec.max_model_len == LIMIT
    assert engine.judged == [prompts.judge_messages(q, PromptStyle.SYSTEM, LabelMode.BINARY) for q in asked]
    assert engine.sampled == [prompts.answer_messages(question) for question in asked]
    assert 0 < len(asked[2].context or "") < len(LONG)
    assert SHORT in engine.judged[1][-1]["content"]


def test_a_question_without_a_context_needs_no_list_of_them(folder: Path, started: list[Recorder]) -> None:
    with LocalJudge(folder) as judge:
        assert [opinion.context_cut for opinion in judge.judge_many([QUESTION])] == [False]
        judge.answer([QUESTION])
    assert started[0].sampled == [prompts.answer_messages(in_the_run(None))]
    with LocalJudge(folder) as judge, pytest.raises(DataError, match="1 contexts for 2 questions: give each its own"):
        judge.judge_many([QUESTION] * 2, [SHORT])


@pytest.mark.parametrize(("verb", "limit"), [("judge_many", LIMIT - 1), ("answer", LIMIT - ANSWER)])
@pytest.mark.parametrize("context", [None, SHORT])
def test_a_question_that_cannot_fit_is_refused_in_one_line(
    folder: Path, started: list[Recorder], verb: str, limit: int, context: str | None
) -> None:
    with LocalJudge(folder) as judge, pytest.raises(DataError) as caught:
        getattr(judge, verb)([QUESTION, "Where?\n" * 200], [context, context])
    told = str(caught.value)
    assert told.startswith("the question 'Where?\\nWhere?\\nWhere?")
    assert f"given at most {limit}: shorten it, or train a judge with a larger --engine.max-model-len" in told
    assert len(told.splitlines()) == 1
    assert started[0].judged == started[0].sampled == []


EARLIER = ({"role": "user", "content": "Who is Sisun Nosix?"}, {"role": "assistant", "content": "A painter."})


def test_a_question_that_cannot_be_judged_keeps_none_beside_it_from_its_opinion(folder: Path, started: list[Recorder]) -> None:
    asked = [Asked(text=QUESTION), Asked(text="Where?\n" * 200), Asked(text=QUESTION, history=EARLIER)]
    with LocalJudge(folder) as judge:
        first, second, third = judge.judge_each(asked)
        assert judge.judge_each(asked[1:2]) == [second]
    assert isinstance(first, Opinion)
    assert isinstance(second, Refusal)
    assert isinstance(third, Opinion)
    assert second.fault == "input_too_long"
    assert "Where?" not in second.reason
    assert third.num_tokens > first.num_tokens
    assert len(started[0].judged) == 2


def test_a_context_is_cut_for_the_turns_before_the_question(folder: Path, started: list[Recorder]) -> None:
    alone, after = Asked(text=QUESTION, context=LONG), Asked(text=QUESTION, context=LONG, history=EARLIER)
    with LocalJudge(folder) as judge:
        opinions = judge.judge_each([after, alone])
    assert all(isinstance(opinion, Opinion) and opinion.context_cut for opinion in opinions)
    shorter, short = started[0].judged
    assert [turn["role"] for turn in shorter] == ["system", "user", "assistant", "user"]
    assert shorter[1:-1] == list(EARLIER)
    assert len(shorter[-1]["content"]) < len(short[-1]["content"])


def test_turns_that_the_template_refuses_are_told_in_one_line(
    folder: Path, started: list[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    def strict(self: ChatTokenizer, chats: Sequence[Chat]) -> list[list[int]]:
        if any(left["role"] == right["role"] for chat in chats for left, right in pairwise(chat)):
            raise TemplateError("roles must alternate")
        return encode_all(self, chats)

    encode_all = ChatTokenizer.encode_all
    with LocalJudge(folder) as judge:
        monkeypatch.setattr(ChatTokenizer, "encode_all", strict)
        refused, judged = judge.judge_each([Asked(text=QUESTION, history=EARLIER[:1]), Asked(text=QUESTION)])
    told = "the model's chat template refuses these turns (roles must alternate): let user and assistant take turns"
    assert refused == Refusal(fault="invalid_chat", reason=told)
    assert isinstance(judged, Opinion)
    assert len(started[0].judged) == 1


def test_the_service_asks_it_and_tells_what_it_says(folder: Path, started: list[Recorder]) -> None:
    chat = [*EARLIER, {"role": "user", "content": QUESTION}]
    with LocalJudge(folder) as plain:
        wanted = plain.judge(QUESTION)
    with ExitStack() as opened:
        judge = opened.enter_context(batching(lambda: opened.enter_context(LocalJudge(folder))))
        client = TestClient(create_app(judge, read_policy(), Keys()))
        answer = client.post("/v1/judgments", json={"input": [QUESTION, "Where? " * 200, chat], "context": [None, None, LONG]})
    first, second, third = answer.json()["data"]
    assert (first["verdict"], first["p_correct"], first["context_cut"]) == (wanted.verdict, None, False)
    assert second["error"]["code"] == "input_too_long"
    assert third["context_cut"] is True
    assert [turn["role"] for turn in started[1].judged[1]] == ["system", "user", "assistant", "user"]
    assert wanted.num_tokens < answer.json()["usage"]["input_tokens"] < 2 * LIMIT


def test_a_reply_is_asked_as_in_the_run_after_the_turns_before_it(folder: Path, started: list[Recorder]) -> None:
    with LocalJudge(folder, answers=True) as judge:
        reply = judge.reply(Asked(text=QUESTION, context=SHORT), Sampling())
        judge.reply(Asked(text=QUESTION, history=EARLIER), Sampling(max_tokens=2, temperature=0.5, top_p=0.9, seed=3))
        assert isinstance(judge.reply(Asked(text="Where? " * 200), Sampling()), Refusal)
    (engine,) = started
    first, second = engine.sampled
    assert first == prompts.answer_messages(in_the_run(SHORT))
    assert second == prompts.answer_messages(in_the_run(None), EARLIER)
    assert isinstance(reply, Answer)
    assert (reply.finish, reply.num_tokens) == (Finish.STOP, 3)
    assert reply.num_prompt_tokens == len(ChatTokenizer(resolve_model("world", None).name).encode(first))


def test_a_reply_is_drawn_as_asked_up_to_a_stop_and_no_longer_than_in_the_run(
    folder: Path, started: list[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def sample(_: Recorder, chats: Sequence[Chat], seeds: Sequence[int], decoding: Decoding) -> list[list[Reply]]:
        drawn.append((seeds[0], decoding))
        return [[Reply(text="Quorn. Or Ada, Quorn.", finish=Finish.LENGTH, num_tokens=6)] for _ in chats]

    monkeypatch.setattr(Recorder, "sample", sample)
    with LocalJudge(folder) as judge:
        whole = judge.reply(Asked(text=QUESTION), Sampling(max_tokens=4096))
        cut = judge.reply(Asked(text=QUESTION), Sampling(max_tokens=2, temperature=0.5, top_p=0.9, seed=3, stop=("Ada", " Or")))
    assert isinstance(whole, Answer)
    assert isinstance(cut, Answer)
    assert (whole.text, whole.finish) == ("Quorn. Or Ada, Quorn.", Finish.LENGTH)
    assert (cut.text, cut.finish) == ("Quorn.", Finish.STOP)
    assert drawn == [
        (0, Decoding(num_trials=1, temperature=0.0, top_p=1.0, max_tokens=ANSWER)),
        (3, Decoding(num_trials=1, temperature=0.5, top_p=0.9, max_tokens=2)),
    ]


def test_a_base_that_answers_beside_its_judge_has_an_engine_of_its_own(
    folder: Path, started: list[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    card = read_judge(folder)
    (folder / ADAPTER).mkdir()
    monkeypatch.setattr(local, "read_judge", lambda _: card)
    monkeypatch.setattr(local, "merge_adapter", lambda *_: None)
    used: list[tuple[int, str]] = []
    monkeypatch.setattr(Recorder, "use", lambda engine, model: used.append((started.index(engine), model.name)))
    base = resolve_model("world", None).name
    for answers in (True, False):
        started.clear()
        with LocalJudge(folder, answers=answers) as judge:
            judge.judge(QUESTION)
            judge.reply(Asked(text=QUESTION), Sampling())
    two, one = used[:2], used[2:]
    assert [place for place, _ in two] == [0, 1]
    assert [place for place, _ in one] == [0, 0]
    for (_, judging), (_, answering) in (two, one):
        assert judging != answering == base


def test_weights_that_make_no_number_give_no_verdict(
    folder: Path, started: list[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recorder, "judge", lambda *_: np.array([[np.nan, np.nan]]))
    with LocalJudge(folder) as judge, pytest.raises(EngineError, match="reads no number at the verdict words"):
        judge.judge_many([QUESTION])
    assert len(started) == 1


def ask(root: Path, *more: str) -> Any:
    return CliRunner().invoke(app, ["ask", "one", QUESTION, "--experiments-root", str(root), *more])


@pytest.mark.parametrize(("context", "cut"), [(SHORT, False), (LONG, True)], ids=["short", "long"])
def test_ask_takes_a_context_and_says_when_it_was_cut(
    folder: Path, started: list[Recorder], monkeypatch: pytest.MonkeyPatch, context: str, cut: bool
) -> None:
    said = StringIO()
    monkeypatch.setattr(experiments, "own_console", lambda _: Console(file=said, width=200))
    result = ask(folder.parents[1], "--context", context, "--answer")
    assert result.exit_code == 0, result.output
    assert "P(k/n >= 0.5) = " in result.stdout
    assert "answer: " in result.stdout
    told = "the context was too long and lost its end: the model reads 128 tokens at most"
    assert (told in said.getvalue()) == cut
    for chat in (*started[0].judged, *started[0].sampled):
        assert chat[-1]["content"] == prompts.ask(in_the_run(context))


def test_an_empty_context_is_refused(folder: Path) -> None:
    result = ask(folder.parents[1], "--context", " ")
    assert result.exit_code == 1
    assert str(result.exception) == "the context is empty: give it a text, or leave --context out"


def test_a_fully_tuned_judge_that_replaces_another_in_place_brings_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder has the same name, and so the engine could take its model for the one that it has."""
    loaded: list[str] = []

    class Llm:
        def collective_rpc(self, method: str, kwargs: dict[str, str]) -> None:
            loaded.append(kwargs["weights_path"])

        def reset_prefix_cache(self) -> bool:
            return True

    monkeypatch.setattr(vllm, "_start", lambda _: Llm())
    base = resolve_model("world", None)
    engine = vllm.VllmEngine(EngineSpec(base=base.name, device="cpu", mode="swap", max_model_len=LIMIT))
    engine.use(ModelRef(name=base.name, digest=base.digest))
    assert loaded == []
    judge = str(tmp_path / "model")
    for digest in ("first", "first", "second"):
        engine.use(ModelRef(name=judge, digest=digest))
    assert loaded == [judge, judge]
    engine.use(ModelRef(name=base.name))
    assert loaded == [judge, judge, base.name]
