"""The judge that a job is to ask, checked before anything heavy loads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from know_thyself.config import RunConfig
from know_thyself.errors import ConfigError
from know_thyself.experiment import Experiment, experiment_name, experiments_root
from know_thyself.experiment.place import locate
from know_thyself.judge import JudgeCard, check_base, check_encoding, read_judge
from know_thyself.pipelines.inputs import Inputs, rule_of


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundJudge:
    """A judge and its folder; `stale` when it was trained on another base, or on one read through another chat template."""

    folder: Path
    card: JudgeCard
    stale: bool


def find_judge(config: RunConfig, inputs: Inputs) -> FoundJudge:
    """The judge of `config.judge`, or the experiment's own, fit to judge the model of `inputs` in the way that `config` says.

    Raises `JudgeError` when it is damaged or, unless `config.allow_stale`, another model's; `ConfigError` when it was trained
    to be asked in another way, or on another label rule.
    """
    own = Experiment(experiments_root(config) / experiment_name(config)).judge
    folder = locate(config.judge) if config.judge else own
    card = read_judge(folder)
    if not config.allow_stale:
        check_base(card, inputs.base)
        check_encoding(card, inputs.encoding)
    _check_asked(config, folder, card)
    stale = (card.base_digest, card.encoding) != (inputs.base.digest, inputs.encoding)
    return FoundJudge(folder=folder, card=card, stale=stale)


def _check_asked(config: RunConfig, folder: Path, card: JudgeCard) -> None:
    asked = {
        "--prompt-style": (config.prompt_style, card.prompt_style),
        "--label-mode": (config.label_mode, card.label_mode),
        "--tuning": (config.tuning, card.tuning),
    }
    for flag, (wanted, given) in asked.items():
        if wanted != given:
            raise ConfigError(f"judge {folder} was trained with {flag} {given}, not {wanted}: ask it with {flag} {given}")
    if card.label_rule != str(rule_of(config)):
        raise ConfigError(
            f"judge {folder} was trained on labels {card.label_rule}, not {rule_of(config)}: ask it with its own "
            "--label.can-at and --label.uncertain-at"
        )
