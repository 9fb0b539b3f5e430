"""The questions that an experiment's settings name."""

from __future__ import annotations

from pathlib import Path

from know_thyself.config import WORLD, RunConfig
from know_thyself.data.files import read_folder
from know_thyself.data.splits import Questions, split_questions
from know_thyself.models import packaged_world


def load_questions(config: RunConfig) -> Questions:
    """The questions that `config` names, cut into splits. Raises `DataError`."""
    folder = packaged_world() / "questions" if config.dataset == WORLD else Path(config.dataset).expanduser()
    train, validation, unusable = read_folder(folder, config.data.malformed)
    cut = split_questions(train, validation, config.data, config.seed)
    return Questions(questions=cut.questions, dropped=unusable | cut.dropped)
