"""The parts of the tree of settings, closed and frozen. The sentence beside a field is its `--help`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
VOCABULARY = ("embed_tokens", "lm_head")
"""The layers where tokens come in and go out."""
RANGE = re.compile(r"([0-9]{1,6})(?:\.\.([0-9]{1,6}))?")


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
    batch_size: int = Field(default=256, ge=1)
    """Questions per call of an engine, no more than `block_rows` of them."""
    block_rows: int = Field(default=256, ge=1)
    """Questions committed together: the most that an interruption repeats per actor. More, where there are very many."""
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


def _workers(given: object) -> int | str:
    """`given` as a number of workers, or as a range `min..max` of them. Raises `ValueError` when it is neither."""
    found = RANGE.fullmatch(str(given))
    least, most = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= least <= most:
        raise ValueError("give a number of workers such as 2, or a range such as 1..4")
    return least if least == most else f"{least}..{most}"


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
    """Examples per worker and forward pass; the batch divided by the most workers when not given."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    """Decoupled weight decay."""
    clip: float = Field(default=1.0, gt=0.0)
    """Largest norm of a gradient."""
    patience: int = Field(default=2, ge=1)
    """Stop after so many epochs without a lower dev log loss."""
    workers: Annotated[int | str, BeforeValidator(_workers)] = 1
    """Training workers: a number, or a range such as 1..4 to grow and shrink within as nodes come and go."""
    failures: int = Field(default=2, ge=0)
    """Times that workers which failed or were lost are started again within one run of the command."""
    preemptions: int | None = Field(default=None, ge=0)
    """Times that they are started again because a node was drained, as on a spot notice; without limit when not given."""
    zero_stage: Literal[0, 1, 2, 3] = 2
    """DeepSpeed ZeRO stage."""
    gradient_checkpointing: bool = False
    """Compute activations twice instead of keeping them: less memory, more time."""
    length_pool: int = Field(default=1, ge=1)
    """Batches drawn together and sorted by length, so that little is padded; 1 leaves the order to chance."""
    checkpoint_every: int = Field(default=200, ge=0)
    """Optimiser steps between checkpoints inside an epoch; 0 for none but those on a notice that a node is drained."""
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

    @property
    def workers_min(self) -> int:
        """The fewest training workers."""
        return int(str(self.workers).partition("..")[0])

    @property
    def workers_max(self) -> int:
        """The most training workers."""
        return int(str(self.workers).rpartition("..")[2])

    @property
    def is_elastic(self) -> bool:
        """Whether the number of workers may change."""
        return self.workers_min < self.workers_max

    @model_validator(mode="after")
    def _spread(self) -> TrainConfig:
        if not self.is_elastic:
            return self._divisible()
        if self.workers_max > self.batch_size:
            raise ValueError(
                f"batch-size={self.batch_size} leaves some of workers={self.workers} without an example: lower their number"
            )
        if self.lora.dropout > 0.0:
            raise ValueError(
                f"lora.dropout={self.lora.dropout} draws other masks on other workers, and workers={self.workers} may change: "
                "leave dropout out, or give one number of workers"
            )
        return self

    def _divisible(self) -> TrainConfig:
        share, rest = divmod(self.batch_size, self.workers_max)
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
    compared: int = Field(default=20_000, ge=1)
    """Dev questions at most that baselines choose by, and validation questions that the judge is compared with them on."""
    scores: dict[str, Path] = {}
    """Scores of any other system on these questions, as NAME=FILE (rows of question_id and confidence), shown as a baseline."""


class StudyConfig(Section):
    """The three-phase study: what is taught between the two judges, and how."""

    taught: float = Field(default=0.4, gt=0.0, lt=1.0)
    """Share of the training questions, cut by group, whose answers are taught; no judge trains on half of them."""
    rounds: int = Field(default=4, ge=1)
    """Rounds of teaching at most, each tested afterwards; the best one is kept."""
    passes: int = Field(default=5, ge=1)
    """Passes over what is taught in a round."""
    patience: int = Field(default=1, ge=1)
    """Stop after so many rounds that were no better: judged by what was learned, and by what was kept of the dev questions."""
    learning_rate: float | None = Field(default=None, gt=0.0)
    """Peak rate of teaching; 1e-4 for an adapter and 1e-5 for all weights when not given."""
    rehearsal: float = Field(default=2.0, ge=0.0)
    """Known facts rehearsed for each one taught, as far as there are so many: the model's own right answers."""
    doubts: float = Field(default=0.0, ge=0.0)
    """Facts neither taught nor known that are rehearsed for each one taught, as far as there are any: the model's own replies,
    of another trial each pass, so that it stays unsure of what it goes on not knowing."""
    wondered: float = Field(default=0.0, ge=0.0)
    """Questions that the model asks itself, rehearsed with its own answers, for each fact taught; others in each pass. What is
    taught and what is to be left alone is not among them."""
    emphasis: float = Field(default=1.0, gt=0.0)
    """How much a taught fact weighs beside a rehearsed one."""
    batch_size: int = Field(default=32, ge=1)
    """Facts per optimiser step over all workers."""
    lora: LoraConfig = LoraConfig()


class CostConfig(Section):
    """What a run may cost. Nothing here is assumed: what is neither given nor measured is not reckoned with.

    A device is a GPU; without GPUs, the cores of one engine or one training worker.
    """

    on_demand: float | None = Field(default=None, ge=0.0)
    """Price of a device for an hour, on demand."""
    spot: float | None = Field(default=None, ge=0.0)
    """Price of a device for an hour on spot."""
    measured_by: str | None = Field(default=None, pattern=NAME_PATTERN)
    """An experiment that has run: `--dry-run` reckons with the throughput it measured; `latest` is the last one."""
    sampled: float | None = Field(default=None, gt=0.0)
    """Tokens that an engine generates in a second; goes over what was measured, as do those below."""
    judged: float | None = Field(default=None, gt=0.0)
    """Tokens of prompts that an engine reads in a second of judging."""
    trained: float | None = Field(default=None, gt=0.0)
    """Tokens that a training worker learns from in a second."""
    start: float | None = Field(default=None, ge=0.0)
    """Seconds until an engine or a training worker is ready."""
    answer_tokens: float | None = Field(default=None, gt=0.0)
    """Tokens of an answer on average; the most it may have when neither given nor measured."""
    characters_per_token: float | None = Field(default=None, gt=0.0)
    """Characters of a prompt by its tokens; 4, usual for English, when neither given nor measured."""
