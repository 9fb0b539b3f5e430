"""The gate: a question is judged first, and then answered here, escalated to the upstream, or met with an abstention.

What the judge thinks travels in `x-kt-` headers, of which there are only those that are known: a judge that is not calibrated
has no p_correct, and one that failed is told of instead of its judgment.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import Response

from know_thyself.asking import Answer, Asked, Opinion, Refusal, Sampling
from know_thyself.errors import ConfigError, EngineError, first_line
from know_thyself.types import Finish
from know_thyself.wire import ChatRequest, Decision
from know_thyself.wire.chat import LARGEST_SEED
from serve.answering import Answerer, answered, spoken
from serve.auth import Key
from serve.completions import Completion
from serve.deciding import Line
from serve.errors import ServiceError
from serve.headers import SCHEMA_VERSION, Headers, recorded
from serve.judging import BusyError
from serve.policy import GatePolicy, Policy
from serve.service import Service
from serve.upstream import Upstream, read_key

log = logging.getLogger("serve")


def gate_policy(policy: Policy, answers: bool) -> GatePolicy | None:
    """What the gate does, None where there is none: neither does the policy want one, nor is there a model that `answers`.

    Raises `ConfigError` for a gate that has nothing to answer with, and for a model that would never be asked.
    """
    wanted = policy.gate or (GatePolicy() if answers else None)
    if wanted is None:
        return None
    if wanted.passing == "answer" and not answers:
        raise ConfigError('the gate has no model that answers what passes: give --answer, or set passing = "escalate"')
    if wanted.passing == "escalate" and answers:
        raise ConfigError("the gate escalates all that passes, so that nothing is answered here: leave --answer out")
    if wanted.upstream is not None:
        read_key(wanted.upstream)
    return wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What is done with a question, the headers that tell it, and the tokens that the judge read."""

    decision: Decision
    headers: Headers
    num_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The gate of `policy` with what it sends questions to; `gate_policy` says what has to be there."""

    policy: GatePolicy
    answerer: Answerer | None
    upstream: Upstream | None

    @classmethod
    def of(cls, policy: Policy, answerer: Answerer | None) -> Gate | None:
        """The gate that `policy` wants. Raises `ConfigError` as `gate_policy`."""
        wanted = gate_policy(policy, answerer is not None)
        if wanted is None:
            return None
        return cls(policy=wanted, answerer=answerer, upstream=Upstream(wanted.upstream) if wanted.upstream else None)

    async def close(self) -> None:
        """Close the connections to the upstream."""
        if self.upstream is not None:
            await self.upstream.close()

    async def respond(self, service: Service, key: Key | None, request: ChatRequest, asked: Asked, line: Line) -> Response:
        """The reply to `request`, which asks `asked`. Raises `ServiceError`, which tells what was decided as a reply does."""
        outcome = await self._judged(service, key, asked, line)
        try:
            return await self._carried_out(outcome, request, asked)
        except ServiceError as error:
            error.headers = {**error.headers, **outcome.headers}
            raise

    async def _judged(self, service: Service, key: Key | None, asked: Asked, line: Line) -> Outcome:
        """What to do with `asked`, whether the judge says something of it or fails."""
        try:
            async with asyncio.timeout(self.policy.budget_ms / 1000):
                said = (await service.consult(key, [asked]))[0]
        except TimeoutError:
            return self._failed(service, "timeout")
        except BusyError:
            return self._failed(service, "busy")
        except EngineError as error:
            log.error("the judge failed: %s", first_line(error))
            return self._failed(service, "failed")
        opinion = checked(service, key, said)
        decision: Decision = self.policy.passing if line.is_reached(opinion) else self.policy.below
        told = recorded(service, key, opinion, decision, line)
        return Outcome(decision=decision, headers=told, num_tokens=opinion.num_tokens)

    def _failed(self, service: Service, how: str) -> Outcome:
        decision: Decision = self.policy.passing if self.policy.failing == "open" else self.policy.below
        service.meter.failure(how, decision)
        told = {"x-kt-schema-version": SCHEMA_VERSION, "x-kt-decision": decision, "x-kt-judge": how}
        return Outcome(decision=decision, headers=told)

    async def _carried_out(self, outcome: Outcome, request: ChatRequest, asked: Asked) -> Response:
        if outcome.decision == "escalate":
            assert self.upstream is not None
            return await self.upstream.forward(request, outcome.headers)
        if outcome.decision == "answer":
            assert self.answerer is not None
            said = answered(self.answerer, asked, sampling_of(request))
        else:
            said = spoken(stated(self.policy.abstention, outcome.num_tokens))
        return await Completion.of(request).respond(said, outcome.headers)


def checked(service: Service, key: Key | None, said: Opinion | Refusal) -> Opinion:
    """The opinion that was `said`. Raises `ServiceError` 400 where there is none, as the question is at fault."""
    if isinstance(said, Refusal):
        service.record(key, [said])
        raise ServiceError(400, said.fault, said.reason, "messages")
    return said


def stated(text: str, num_tokens: int) -> Answer:
    """`text` that no model generated, after `num_tokens` were read."""
    return Answer(text=text, finish=Finish.STOP, num_prompt_tokens=num_tokens, num_tokens=0)


def sampling_of(request: ChatRequest) -> Sampling:
    """How `request` wants its answer drawn: another each time where it names no seed, as OpenAI does it."""
    stop: Sequence[str] = [request.stop] if isinstance(request.stop, str) else request.stop or ()
    return Sampling(
        max_tokens=request.max_completion_tokens or request.max_tokens,
        temperature=request.temperature or 0.0,
        top_p=request.top_p or 1.0,
        seed=secrets.randbelow(LARGEST_SEED + 1) if request.seed is None else request.seed,
        stop=tuple(stop),
    )
