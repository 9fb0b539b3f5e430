"""The tree of settings and its faults. The sentence beside a field is its `--help`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from know_thyself.config.sections import (
    NAME_PATTERN,
    ChatConfig,
    CostConfig,
    DataConfig,
    EngineConfig,
    EvidenceConfig,
    LabelConfig,
    SamplingConfig,
    StudyConfig,
    TrainConfig,
)
from know_thyself.types import LabelMode, PromptStyle

HUB_ID = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
LATEST = "latest"
"""No experiment's name: the file beside the experiments that names the last one."""
ENV_PREFIX = "KT_"
WORLD = "world"
"""As `model` or `dataset`: the embedded world."""


def is_url(text: str) -> bool:
    """Whether `text` means a place in an object store, even one of a kind that we do not know."""
    return "://" in text


def _root(told: Any) -> Any:
    """A path as such; a URL stays the text that it is, for a path would lose one of its slashes."""
    return Path(told) if isinstance(told, str) and not is_url(told) else told


class RunConfig(BaseSettings):
    """Everything that decides an experiment."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        cli_kebab_case="all",
        cli_implicit_flags=True,
        cli_exit_on_error=False,
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )

    preset: str | None = None
    """A named set of settings to start from: a file of the presets folder, or a path to a TOML file."""
    name: str | None = Field(default=None, pattern=NAME_PATTERN)
    """Name of the experiment; derived from the settings when not given."""
    experiments_root: Annotated[Path | str, BeforeValidator(_root)] = Path("experiments")
    """Folder that holds the experiments, or a place for them in an object store, s3://bucket/prefix or gs://bucket/prefix; the
    environment variable KT_EXPERIMENTS names it as well."""
    model: str = Field(default=WORLD, min_length=1)
    """The language model: a folder, a hub id, or `world` for the embedded one."""
    revision: str | None = None
    """Revision of a hub model."""
    trust_remote_code: bool = False
    """Run code that comes with the model."""
    dataset: str = Field(default=WORLD, min_length=1)
    """The questions: `world`, `triviaqa`, `hotpotqa`, `nq_open`, a hub id (owner/name), or a folder with train and validation
    files (JSONL or Parquet)."""
    label_mode: LabelMode = LabelMode.BINARY
    """Verdicts to tell apart."""
    prompt_style: PromptStyle = PromptStyle.SYSTEM
    """Where the judge looks: same (the answer prompt itself), system, or asked."""
    tuning: Literal["lora", "full"] = "lora"
    """What training changes: an adapter beside a frozen answerer, or all weights, the answers with them."""
    grader: str = "alias"
    """`alias`, or `module:function` of a grader of your own."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of splits, trials and training."""
    address: str | None = None
    """Ray cluster to run on; RAY_ADDRESS or else a local one when not given."""
    node_wait: float = Field(default=1200.0, ge=0.0)
    """Seconds that such a cluster may take to bring the nodes that a job or a training of it cannot begin without."""
    dry_run: bool = False
    """Print the resolved settings, the stages already done and an estimate, and stop."""
    skip_collect: bool = False
    """Use the answers that stand and refuse to ask for new ones."""
    start_epoch: int = Field(default=1, ge=1)
    """Train from this epoch on; what those before it trained must stand."""
    phase: int | None = Field(default=None, ge=1, le=3)
    """For jobs.three_phase: this phase alone, on what those before it made; all that is missing when not given."""
    push_to_hub: str | None = Field(default=None, pattern=f"^{HUB_ID}$")
    """Upload the judge and its model card to this hub repository (owner/name) at the end; no questions, answers or paths."""
    examples: bool = True
    """Show questions and answers in the report; without them it holds no text of a user."""
    scores: Path | None = None
    """For jobs.evaluate: a file of any other system's scores, rows of question_id and confidence; no model is asked."""
    labels: Path | None = None
    """For jobs.evaluate with scores: a file of labels, rows of question_id and correct (or num_correct and num_trials)."""
    judge: str | None = Field(default=None, min_length=1)
    """A judge's folder, for jobs that only judge or evaluate; the experiment's own when not given."""
    allow_stale: bool = False
    """Let a judge that was trained on another base judge this model, and mark what it says as stale."""
    data: DataConfig = DataConfig()
    sampling: SamplingConfig = SamplingConfig()
    label: LabelConfig = LabelConfig()
    engine: EngineConfig = EngineConfig()
    chat: ChatConfig = ChatConfig()
    train: TrainConfig = TrainConfig()
    evidence: EvidenceConfig = EvidenceConfig()
    study: StudyConfig = StudyConfig()
    cost: CostConfig = CostConfig()

    @model_validator(mode="after")
    def _possible(self) -> RunConfig:
        if self.push_to_hub and not re.fullmatch(HUB_ID, self.model):
            raise ValueError(
                f"push-to-hub={self.push_to_hub}, but model={self.model} is not on the hub, and nobody could use its judge: "
                "train on a hub model (owner/name), or leave --push-to-hub out"
            )
        if (self.scores is None) != (self.labels is None):
            raise ValueError(f"scores={self.scores} and labels={self.labels} go together: give both files, or neither")
        if self.scores is not None and self.name is None:
            raise ValueError(f"scores={self.scores} are no experiment of ours: give --name, where to write what they come to")
        if self.name == LATEST:
            raise ValueError(f"name={LATEST} always means the last experiment: choose another name")
        if self.sampling.max_tokens >= self.engine.max_model_len:
            raise ValueError(
                f"sampling.max-tokens={self.sampling.max_tokens} leaves no room for a question in "
                f"engine.max-model-len={self.engine.max_model_len}: lower the first or raise the second"
            )
        if self.start_epoch > self.train.epochs + 1:
            raise ValueError(
                f"start-epoch={self.start_epoch} comes after the last of train.epochs={self.train.epochs}: lower the first or "
                "raise the second"
            )
        if self.label_mode is LabelMode.UNCERTAINTY and self.label.source == "trials":
            self._check_uncertain()
        return self

    def _check_uncertain(self) -> None:
        """Raise `ValueError` unless some number of right trials is labelled uncertain."""
        trials, label = self.sampling.num_trials, self.label
        if trials < 2:
            raise ValueError('num-trials=1 cannot yield "uncertain": use 2 or more, or --label-mode binary')
        if not any(label.uncertain_at <= right / trials < label.can_at for right in range(trials + 1)):
            raise ValueError(
                f'label.uncertain-at={label.uncertain_at} and label.can-at={label.can_at} leave no "uncertain" in '
                f"num-trials={trials}: widen the gap, or use --label-mode binary"
            )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over the preset, which `load_config` hands to the initialiser; flags come before both by themselves."""
        return env_settings, init_settings
