"""The adapters in their frameworks, against the service on the fake judge."""

from __future__ import annotations

import asyncio
import copy
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, TypedDict

import pytest
from langgraph.graph import END, START, StateGraph
from llama_index.core.base.response.schema import Response
from llama_index.core.query_engine import CustomQueryEngine, RouterQueryEngine
from llama_index.core.tools import QueryEngineTool

from know_thyself.asking import Asked
from know_thyself.client import AsyncKnowThyself, KnowThyself
from know_thyself.client.integrations import langgraph, litellm, llama_index
from know_thyself.errors import ConfigError, RemoteError
from know_thyself.testing import FakeJudge
from serve.api import create_app
from serve.auth import Keys
from tests.serve.apps import CHAT, HISTORY, SURE, UNSURE, policy_of, running

JUDGE = FakeJudge()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(create_app(JUDGE, policy_of(), Keys())) as address:
        yield address


@pytest.fixture(scope="module")
def abstaining() -> Iterator[str]:
    with running(create_app(JUDGE, policy_of(below="abstain"), Keys())) as address:
        yield address


class State(TypedDict, total=False):
    question: str
    context: str
    judgment: dict[str, Any]
    done: str


def graph_of(client: KnowThyself | AsyncKnowThyself) -> Any:
    """A graph that answers or retrieves as the judge decides, and ends where it abstains."""
    graph = StateGraph(State)
    graph.add_node("judge", langgraph.judging(client))  # type: ignore[call-overload]
    graph.add_node("answer", lambda _: {"done": "answered"})
    graph.add_node("retrieve", lambda _: {"done": "retrieved"})
    graph.add_edge(START, "judge")
    graph.add_conditional_edges("judge", langgraph.deciding(answer="answer", escalate="retrieve", abstain=END))
    return graph.compile()


def test_a_graph_goes_where_the_judge_decides(url: str, abstaining: str) -> None:
    with KnowThyself(url) as client, KnowThyself(abstaining) as strict:
        assert graph_of(client).invoke({"question": SURE})["done"] == "answered"
        retrieved = graph_of(client).invoke({"question": UNSURE, "context": "Quorn."})
        assert (retrieved["done"], retrieved["judgment"]["decision"]) == ("retrieved", "escalate")
        assert retrieved["judgment"]["verdict"] == "cannot"
        assert "done" not in graph_of(strict).invoke({"question": UNSURE})
    assert JUDGE.asked[-2] == [Asked(text=UNSURE, context="Quorn.")]


def test_a_graph_of_an_async_client_is_async(url: str) -> None:
    async def run() -> list[str]:
        async with AsyncKnowThyself(url) as client:
            graph = graph_of(client)
            return [(await graph.ainvoke({"question": text}))["done"] for text in (SURE, UNSURE)]

    assert asyncio.run(run()) == ["answered", "retrieved"]


def test_the_graph_is_drawn_with_the_edges_that_there_are() -> None:
    drawn = graph_of(KnowThyself("http://127.0.0.1")).get_graph()
    assert {edge.target for edge in drawn.edges if edge.source == "judge"} == {"answer", "retrieve", END}


def test_a_graph_raises_what_the_service_refuses(url: str) -> None:
    with KnowThyself(url) as client, pytest.raises(RemoteError, match="the input is empty"):
        graph_of(client).invoke({"question": " "})


class Echo(CustomQueryEngine):
    """An engine that says its name."""

    name: str

    def custom_query(self, query_str: str) -> Response:
        return Response(response=self.name)


def router_of(client: KnowThyself, **places: int) -> RouterQueryEngine:
    tools = [QueryEngineTool.from_defaults(Echo(name=name), description=name) for name in ("direct", "rag", "nobody")]
    selector = llama_index.JudgeSelector(client, **places)
    unused: Any = SimpleNamespace()
    return RouterQueryEngine(selector=selector, query_engine_tools=tools, llm=unused, summarizer=unused)


def test_a_router_asks_the_engine_that_the_judge_decides_for(url: str, abstaining: str) -> None:
    with KnowThyself(url) as client, KnowThyself(abstaining) as strict:
        router = router_of(client)
        sure = router.query(SURE)
        assert str(sure) == "direct"
        assert sure.metadata is not None
        assert sure.metadata["selector_result"].reason == "answer: p_correct 0.98, threshold 0.5"
        assert str(router.query(UNSURE)) == "rag"
        assert str(asyncio.run(router.aquery(UNSURE))) == "rag"
        assert str(router_of(strict, abstain=2).query(UNSURE)) == "nobody"
        with pytest.raises(ConfigError, match="choice 3 of 3 cannot be selected"):
            router_of(client, abstain=3).query(SURE)


def classified(messages: Any = None, raw: Any = None, **settings: Any) -> str | None:
    """The tier that a copy of the classifier gives, as LiteLLM makes one."""
    context: Any = SimpleNamespace(structured_messages=messages, raw_messages=raw)
    classifier = litellm.JudgeClassifier(**settings) if settings else litellm.judge_classifier
    return asyncio.run(copy.deepcopy(classifier).classify(context))


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def test_the_classifier_names_the_tier(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KT_URL", url)
    assert classified([user(SURE, cache_control={"type": "ephemeral"})]) == "SIMPLE"
    assert classified(None, [user([{"type": "text", "text": UNSURE, "cache_control": {}}])]) == "REASONING"
    assert classified([user(UNSURE)], cannot="HARD") == "HARD"
    classified(CHAT)
    assert JUDGE.asked[-1] == [Asked(text="Where was she born?", history=tuple(HISTORY))]


DECLINED = {
    "nothing": None,
    "an image": [user([{"type": "image_url", "image_url": {"url": "x"}}])],
    "a tool's result": [user(SURE), {"role": "tool", "content": "3", "tool_call_id": "1"}],
    "a tool's call": [user(SURE), {"role": "assistant", "content": None, "tool_calls": [{}]}, user(SURE)],
}


@pytest.mark.parametrize("messages", DECLINED.values(), ids=DECLINED)
def test_the_classifier_declines_what_is_not_text(url: str, monkeypatch: pytest.MonkeyPatch, messages: Any) -> None:
    monkeypatch.setenv("KT_URL", url)
    before = len(JUDGE.asked)
    assert classified(messages) is None
    assert len(JUDGE.asked) == before


def test_errors_of_the_classifier_are_left_to_the_fallback(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KT_URL", url)
    with pytest.raises(RemoteError, match="the input is empty"):
        classified([user(" ")])


def test_an_adapter_loads_no_framework_that_it_does_not_need() -> None:
    code = "import sys, know_thyself.client.integrations.{0}, know_thyself.client.integrations.{1}; print(*sys.modules)"
    command = [sys.executable, "-c", code.format("langgraph", "litellm")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = {module.partition(".")[0] for module in done.stdout.split()}
    assert "httpx2" in loaded
    assert loaded & {"langgraph", "llama_index", "litellm", "fastapi", "torch"} == set()
