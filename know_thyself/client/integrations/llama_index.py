"""LlamaIndex: a selector that lets the model answer what it can, and sends the rest to another engine.

RouterQueryEngine(selector=JudgeSelector(KnowThyself(url)), query_engine_tools=[direct, with_retrieval])
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from llama_index.core.base.base_selector import BaseSelector, SelectorResult, SingleSelection
from llama_index.core.prompts.mixin import PromptDictType
from llama_index.core.schema import QueryBundle
from llama_index.core.tools.types import ToolMetadata

from know_thyself.client.http import KnowThyself
from know_thyself.errors import ConfigError


class JudgeSelector(BaseSelector):
    """Selects one of the choices by what the judge decides: the first to answer, the second otherwise, unless told."""

    def __init__(self, client: KnowThyself, answer: int = 0, escalate: int = 1, abstain: int = 1) -> None:
        self._client = client
        self._places = {"answer": answer, "escalate": escalate, "abstain": abstain}

    def _select(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> SelectorResult:
        missing = max(self._places.values())
        if missing >= len(choices):
            raise ConfigError(f"choice {missing} of {len(choices)} cannot be selected, counted from 0: give the router more")
        judgment = self._client.judge(query.query_str)
        reason = f"{judgment.decision}: p_correct {judgment.p_correct}, threshold {judgment.threshold}"
        return SelectorResult(selections=[SingleSelection(index=self._places[judgment.decision], reason=reason)])

    async def _aselect(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> SelectorResult:
        return await asyncio.to_thread(self._select, choices, query)

    def _get_prompts(self) -> PromptDictType:
        return {}

    def _update_prompts(self, prompts: PromptDictType) -> None:
        """A judge asks with its own prompts alone."""
