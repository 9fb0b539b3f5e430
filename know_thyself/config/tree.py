"""The tree of settings, closed and frozen. The sentence beside a field is its `--help`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from know_thyself.types import LabelMode, PromptStyle

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
HUB_ID = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
LATEST = "latest"
"""No experiment's name: the file beside the experiments that names the last one."""
ENV_PREFIX = "KT_"
VOCABULARY = ("embed_tokens", "lm_head")
"""The layers where tokens come in and go out."""
WORLD = "world"
"""As `model` or `dataset`: the embedded world."""


class Section(BaseModel):
    """Base of the parts of the tree: closed and frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class ColumnsConfig(Section):
    """Where the rows of a data set from the hub hold what; a dot reaches into a nested column, as in `answer.aliases`."""

    question: str = Field(default="question", min_length=1)
    """The question's text."""
    answers: str = Field(default="answers", min_length=1)
    """The accepted answers: a list of texts, or one text."""
    context: str | None = None
    """A text to answer from; none when not given."""
    id: str | None = None
    """The question's id; its content's hash when not given."""
    group: str | None = None
    """What keeps questions in one split, such as a subject; near-duplicate texts when not given."""


class DataConfig(Section):
    """Which questions, and how they are cut into splits."""

    path: str | None = Field(default=None, min_length=1)
    """A local folder in the hub's layout, read in place of the hub when `dataset` names a known data set."""
    subset: str | None = Field(default=None, min_length=1)
    """Configuration of a hub data set, such as unfiltered.nocontext or distractor; each known data set has its own default."""
    revision: str | None = Field(default=None, min_length=1)
    """Revision of a hub data set."""
    train_split: str = Field(default="train", min_length=1)
    """Split of a hub data set to train on."""
    validation_split: str = Field(default="validation", min_length=1)
    """Split of a hub data set that is only reported on."""
    columns: ColumnsConfig = ColumnsConfig()
    closed_book: bool = False
    """Leave the contexts out, where the questions have any."""
    num_train: int | None = Field(default=None, ge=1)
    """Questions to train on at most, drawn by seed; all when not given."""
    num_validation: int | None = Field(default=None, ge=1)
    """Validation questions at most, drawn by seed; all when not given."""
    dev: float = Field(default=0.10, gt=0.0, lt=0.5)
    """Share of the training questions that chooses the epoch, cut by group."""
    calibration: float = Field(default=0.10, gt=0.0, lt=0.5)
    """Share of the training questions kept for calibration, cut by group."""
    least: int = Field(default=300, ge=1)
    """Fewest questions of dev and of calibration, whatever their shares say."""
    overlap: Literal["drop", "refuse"] | None = None
    """A question in train and in validation: drop it from train and count it, or refuse; when not given, drop for data sets of
    the hub and refuse for files."""
    malformed: Literal["strict", "lenient"] = "strict"
    """A row that cannot be read: refuse the file with its line number, or set the row aside and count it."""


class SamplingConfig(Section):
    """How the answerer answers: part of every label's identity."""

    num_trials: int = Field(default=5, ge=1, le=128)
    """Answers per question."""
    temperature: float = Field(default=0.7, ge=0.0, le=5.0)
    """Decoding temperature of the trials."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """Nucleus of the decoding distribution."""
    max_tokens: int = Field(default=32, ge=1)
    """Longest answer in tokens."""

    @model_validator(mode="after")
    def _varied(self) -> SamplingConfig:
        if self.temperature == 0.0 and self.num_trials > 1:
            raise ValueError(
                f"temperature=0 gives the same answer in all num-trials={self.num_trials}: use --sampling.num-trials 1, "
                "or a temperature above 0"
            )
        return self


class LabelConfig(Section):
    """The ability rule, and where the counts it is applied to come from."""

    source: Literal["trials", "logs"] = "trials"
    """Ask the model and grade its answers, or take the counts that stand in the question files (`correct`, or `num_correct`
    and `num_trials`)."""
    can_at: float = Field(default=1.0, gt=0.0, le=1.0)
    """Accuracy from which a question is labelled can."""
    uncertain_at: float = Field(default=0.5, gt=0.0, le=1.0)
    """Accuracy from which a question is labelled uncertain; in binary mode, can."""

    @model_validator(mode="after")
    def _ordered(self) -> LabelConfig:
        if self.uncertain_at > self.can_at:
            raise ValueError(f"uncertain-at={self.uncertain_at} is above can-at={self.can_at}: lower it")
        return self


class EngineConfig(Section):
    """Where and how the language model runs."""

    backend: str = "vllm"
    """`vllm`, or `module:function` of an engine factory with the same face."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the engines and of training; auto takes CUDA where the cluster has it."""
    mode: Literal["auto", "swap", "adapter"] = "auto"
    """How a judge reaches the engine: merged weights swapped in, or an adapter beside the base; auto is adapter on CUDA."""
    actors_min: int = Field(default=1, ge=1)
    """Engine actors to start with."""
    actors_max: int = Field(default=1, ge=1)
    """Engine actors to grow to."""
    batch_size: int = Field(default=64, ge=1)
    """Questions per call of an engine."""
    block_rows: int = Field(default=256, ge=1)
    """Questions committed together: the most that an interruption repeats per actor."""
    cache_gib: float = Field(default=1.0, gt=0.0)
    """Key-value cache of a CPU engine."""
    max_model_len: int = Field(default=1024, ge=16)
    """Longest prompt and answer together, in tokens."""
    gpu_memory: float = Field(default=0.85, gt=0.0, le=1.0)
    """Share of a GPU's memory that an engine takes."""

    @model_validator(mode="after")
    def _ordered(self) -> EngineConfig:
        if self.actors_min > self.actors_max:
            raise ValueError(f"actors-min={self.actors_min} is above actors-max={self.actors_max}: raise actors-max")
        return self


class LoraConfig(Section):
    """The adapter."""

    r: int = Field(default=16, ge=1, le=512)
    """Rank."""
    alpha: int = Field(default=32, ge=1)
    """Scale: updates are multiplied by alpha / r."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout before the adapter. Its masks are drawn per worker and forward pass: above 0, another number of workers or
    micro-batch-size trains another adapter, so both become part of what names the stage; resuming stays exact."""
    targets: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"), min_length=1
    )
    """Linear layers that get an adapter."""

    @model_validator(mode="after")
    def _inner(self) -> LoraConfig:
        for target in self.targets:
            if target.rpartition(".")[2] in VOCABULARY:
                raise ValueError(
                    f"targets={target} holds the vocabulary, and engines load adapters of the linear layers within alone: "
                    "leave it out"
                )
        return self


class ChatConfig(Section):
    """How the model's chat template is used."""

    prefill: str | None = None
    """Text that opens every reply, such as that of a final channel; found from the model's template when not given."""


class TrainConfig(Section):
    """How the judgment is trained."""

    epochs: int = Field(default=3, ge=0)
    """Rounds of train, judge, test; 0 only measures the untrained judge."""
    passes: int = Field(default=1, ge=1)
    """Passes over an epoch's examples."""
    select: Literal["wrong", "all", "weighted"] = "all"
    """Examples of an epoch: those judged wrong, all, or all weighted by their loss."""
    target: Literal["soft", "hard"] = "soft"
    """What an example teaches: its measured accuracy (of three verdicts: the odds of each, given the counts), or its class."""
    loss: Literal["verdict", "sequence"] = "verdict"
    """Where it teaches: at the verdict alone, or on every token of prompt and verdict as the prototype did (hard targets)."""
    learning_rate: float = Field(default=2e-4, gt=0.0)
    """Peak rate; linear warm-up, then decay over all epochs."""
    decay: Literal["linear", "cosine", "constant"] = "linear"
    """Shape of the decay after the warm-up."""
    warmup: float = Field(default=0.05, ge=0.0, lt=1.0)
    """Share of all steps that warm up."""
    final_rate: float = Field(default=0.1, ge=0.0, le=1.0)
    """Share of the peak rate at the end."""
    batch_size: int = Field(default=32, ge=1)
    """Examples per optimiser step over all workers; it never changes with their number."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Examples per worker and forward pass; the batch divided by the workers when not given."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    """Decoupled weight decay."""
    clip: float = Field(default=1.0, gt=0.0)
    """Largest norm of a gradient."""
    patience: int = Field(default=2, ge=1)
    """Stop after so many epochs without a lower dev log loss."""
    workers: int = Field(default=1, ge=1)
    """Training workers."""
    zero_stage: Literal[0, 1, 2, 3] = 2
    """DeepSpeed ZeRO stage."""
    gradient_checkpointing: bool = False
    """Compute activations twice instead of keeping them: less memory, more time."""
    length_pool: int = Field(default=1, ge=1)
    """Batches drawn together and sorted by length, so that little is padded; 1 leaves the order to chance."""
    checkpoint_every: int = Field(default=200, ge=0)
    """Optimiser steps between checkpoints inside an epoch; 0 for none."""
    deepspeed: Path | None = None
    """A JSON file of DeepSpeed settings that go over ours."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of training; auto is bf16 on CUDA and fp32 on CPU."""
    lora: LoraConfig = LoraConfig()

    @model_validator(mode="after")
    def _one_word(self) -> TrainConfig:
        if self.loss == "sequence" and self.target != "hard":
            raise ValueError(
                f"train.loss={self.loss!r} teaches one word for each question, train.target={self.target!r} a share of each: "
                "use --train.target hard, or --train.loss verdict"
            )
        return self

    @model_validator(mode="after")
    def _divisible(self) -> TrainConfig:
        share, rest = divmod(self.batch_size, self.workers)
        micro = self.micro_batch_size or share
        if rest or share == 0 or share % micro:
            raise ValueError(
                f"batch-size={self.batch_size} cannot be split over workers={self.workers} with micro-batch-size={micro}: "
                "make it a multiple of their product"
            )
        return self


class EvidenceConfig(Section):
    """What the judge is held against."""

    baselines: bool = True
    """Measure the baselines beside the judge; without them nothing is said of what the question alone reveals."""
    probe: bool = True
    """Read the untrained model itself for baselines: hidden states, its greedy answer, what it says of that answer."""
    batch_size: int = Field(default=64, ge=1)
    """Questions read at once."""
    layers: int = Field(default=8, ge=1)
    """Layers that the linear probe may choose from at most, evenly spaced, the last among them."""
    questions: int = Field(default=4000, ge=1)
    """Training questions at most that baselines learn from."""
    scores: dict[str, Path] = {}
    """Scores of any other system on these questions, as NAME=FILE (rows of question_id and confidence), shown as a baseline."""


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
    experiments_root: Path = Path("experiments")
    """Folder that holds the experiments; the environment variable KT_EXPERIMENTS names it as well."""
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
    dry_run: bool = False
    """Print the resolved settings, the stages already done and an estimate, and stop."""
    skip_collect: bool = False
    """Use the answers that stand and refuse to ask for new ones."""
    start_epoch: int = Field(default=1, ge=1)
    """Train from this epoch on; what those before it trained must stand."""
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
