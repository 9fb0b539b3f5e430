"""From what an operator names to a judge that is ready: everything that can be wrong is told before an engine starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from know_thyself.config import EngineConfig
from know_thyself.errors import ConfigError
from know_thyself.judge import read_judge
from serve.api import decider_of
from serve.auth import Keys, read_keys
from serve.local import BatchingJudge, batching, warmed
from serve.policy import DEFAULTS, Policy, read_policy
from serve.registry import Registry, Successors

if TYPE_CHECKING:
    from know_thyself.client.local import LocalJudge


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where everything is: the folder of a `judge`, or of a `registry` of them; the files of keys and policy."""

    judge: Path | None = None
    registry: Path | None = None
    keys: Path | None = None
    policy: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is served: the judge of `folder`, perhaps of a `registry`, to whom and under which policy."""

    folder: Path
    registry: Registry | None
    keys: Keys
    policy: Policy

    def successors(self, first: BatchingJudge[LocalJudge]) -> Successors | None:
        """The judges that may follow `first`, each verified, prepared, and asked once, on the same engine."""
        from know_thyself.client.local import LocalJudge

        if self.registry is None:
            return None
        return Successors(self.registry, lambda folder: first.successor(lambda beside: LocalJudge(folder, beside=beside)))


def read_plan(sources: Sources) -> Plan:
    """What `sources` come to. Raises `KnowThyselfError` where the judge is not sound, or cannot keep what is asked of it."""
    keys = read_keys(sources.keys) if sources.keys else Keys()
    policy = read_policy(sources.policy or DEFAULTS)
    registry = Registry(sources.registry) if sources.registry else None
    folder = registry.judge(registry.appointed.name) if registry else sources.judge
    if folder is None:
        raise ConfigError("there is nothing to serve: name the folder of a judge, or of a registry of them")
    decider_of(read_judge(folder), policy, keys)
    return Plan(folder=folder, registry=registry, keys=keys, policy=policy)


@contextmanager
def started(folder: Path, backend: str = "vllm") -> Iterator[BatchingJudge[LocalJudge]]:
    """The judge of `folder` on an engine of this process, which has judged once. Raises `KnowThyselfError`."""
    from know_thyself.client.local import LocalJudge

    with ExitStack() as opened:
        engine = EngineConfig(backend=backend)
        yield opened.enter_context(batching(lambda: warmed(opened.enter_context(LocalJudge(folder, engine)))))
