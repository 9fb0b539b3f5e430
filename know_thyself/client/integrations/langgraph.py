"""LangGraph: a node that asks whether the model can answer, and an edge that goes where the decision says.

    graph.add_node("judge", judging(AsyncKnowThyself(url)))
    graph.add_conditional_edges("judge", deciding(answer="answer", escalate="retrieve", abstain=END))

The judgment is part of the state, so that it is checkpointed and can be looked at; the edge only reads it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

from know_thyself.client.http import AsyncKnowThyself, KnowThyself

State = Mapping[str, Any]
Node = Callable[[State], dict[str, Any] | Awaitable[dict[str, Any]]]


def judging(
    client: KnowThyself | AsyncKnowThyself, question: str = "question", context: str = "context", judgment: str = "judgment"
) -> Node:
    """A node that judges what the state has under `question`, with its `context` if there is one, and writes `judgment`.

    That is a `JudgmentItem` as a dict. The node is async where `client` is. Errors are those of the client.
    """

    def judge(state: State) -> dict[str, Any]:
        assert isinstance(client, KnowThyself)
        return {judgment: client.judge(state[question], state.get(context)).model_dump(mode="json")}

    async def ajudge(state: State) -> dict[str, Any]:
        assert isinstance(client, AsyncKnowThyself)
        return {judgment: (await client.judge(state[question], state.get(context))).model_dump(mode="json")}

    return judge if isinstance(client, KnowThyself) else ajudge


def deciding(answer: str, escalate: str, abstain: str, judgment: str = "judgment") -> Callable[[State], str]:
    """The path of a conditional edge: the node for the decision of the `judgment` in the state."""
    targets = {"answer": answer, "escalate": escalate, "abstain": abstain}

    def decide(state: State) -> str:
        return targets[state[judgment]["decision"]]

    # LangGraph draws the edges that the type of what is returned allows.
    decide.__annotations__["return"] = Literal[tuple(targets.values())]
    return decide
