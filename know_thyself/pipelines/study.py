"""What a study starts from, checked before anything heavy loads: its pools, and how it teaches."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pydantic import ValidationError

from know_thyself.config import RunConfig, TrainConfig
from know_thyself.data.pools import Pools, cut_pools
from know_thyself.errors import ConfigError, first_fault
from know_thyself.pipelines.guards import check_begun
from know_thyself.pipelines.inputs import Inputs, check_inputs, check_learner

RATES = {"lora": 1e-4, "full": 1e-5}
"""The peak rate of teaching by tuning, as the prototype's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyInputs:
    """The inputs of a study, whose questions are cut into `pools`, and how `knowledge` is taught."""

    inputs: Inputs
    pools: Pools
    knowledge: TrainConfig


def check_study(config: RunConfig) -> StudyInputs:
    """The inputs that `config` names. Raises `DataError` or `ConfigError` when they are missing or cannot be studied."""
    _check_settings(config)
    check_begun(config)
    knowledge = knowledge_config(config)
    inputs = check_inputs(config)
    check_learner(inputs.base, config.tuning, config.study.lora)
    from know_thyself.engine.chat import ChatTokenizer

    ChatTokenizer(inputs.base.name, config.trust_remote_code, config.chat.prefill).turn_end()
    pools = cut_pools(inputs.questions, config.study.taught, config.seed)
    return StudyInputs(inputs=replace(inputs, questions=pools.questions), pools=pools, knowledge=knowledge)


def _check_settings(config: RunConfig) -> None:
    if config.label.source == "logs":
        raise ConfigError("label.source=logs: a study asks its model what it knows before and after; leave logs out")
    if config.start_epoch > 1:
        raise ConfigError(f"start-epoch={config.start_epoch} is for jobs.judgment: a study goes on by itself, leave it out")
    if config.skip_collect:
        raise ConfigError("skip-collect: a study asks its model again after every round of teaching; leave --skip-collect out")
    if config.push_to_hub:
        raise ConfigError(
            f"push-to-hub={config.push_to_hub}: the judge of a study is of a model that is on no hub; leave --push-to-hub out"
        )


def knowledge_config(config: RunConfig) -> TrainConfig:
    """How `config` teaches: as it trains judges, but for what `study` says. Raises `ConfigError` when that cannot be."""
    study, train = config.study, config.train
    share = study.batch_size // train.workers_max
    micro = train.micro_batch_size if train.micro_batch_size and train.micro_batch_size < share else None
    taught = {
        "epochs": study.rounds,
        "passes": 1,  # the rows of a round are of all its passes
        "learning_rate": study.learning_rate or RATES[config.tuning],
        "batch_size": study.batch_size,
        "micro_batch_size": micro,
        "lora": study.lora.model_dump(),
    }
    try:
        return TrainConfig.model_validate({**train.model_dump(), **taught})
    except ValidationError as error:
        raise ConfigError(f"study: {first_fault(error)[1]}") from error
