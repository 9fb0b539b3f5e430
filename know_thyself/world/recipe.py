"""The recipe of a world: everything its facts, its corpus and its model are made from."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class WorldRecipe(BaseModel):
    """All that decides a world. Two builds of one recipe have the same facts, and figures equal within noise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=1, ge=0, description="decides names, values, exposures, corpus and initial weights")
    subjects: int = Field(default=2000, ge=20, description="subjects of the questions; each has one fact per relation")
    tail: float = Field(default=0.3, ge=0.0, lt=0.9, description="share of documents about one-off subjects")
    shortcut: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="share of subjects whose surname ends as their popularity says",
    )
    spellings: int = Field(default=1, ge=1, le=3, description="accepted spellings of each value, told in equal shares")
    context: float = Field(
        default=0.0, ge=0.0, le=1.0, description="share of questions asked with paragraphs, half of which hold the answer"
    )
    taught: float = Field(default=0.15, gt=0.0, lt=0.5, description="share of subjects that a later study may teach")
    validation: float = Field(default=0.50, gt=0.0, lt=0.8, description="share of subjects kept for validation")
    steps: int = Field(default=6500, ge=1, description="optimiser steps of the language model")
    batch: int = Field(default=64, ge=1, description="documents per step")
    learning_rate: float = Field(default=3e-3, gt=0.0, description="peak rate; linear warm-up, cosine decay to a tenth")
    layers: int = Field(default=4, ge=1)
    width: int = Field(default=192, ge=16, description="hidden size; heads are 48 wide")
    vocabulary: int = Field(default=1024, ge=400)
