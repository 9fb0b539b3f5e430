"""A judge for others: its model card beside it, and both on the hub."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from know_thyself.config import HUB_ID
from know_thyself.errors import HubError, first_line
from know_thyself.evaluation.report.card import licence_of, render_card
from know_thyself.experiment import write_whole
from know_thyself.judge import CARD, read_judge
from know_thyself.pipelines.bench import Bench

MODEL_CARD = "README.md"


def write_card(bench: Bench, summary: Mapping[str, Any]) -> Path:
    """Write the model card of the judge beside it."""
    base_id = bench.config.model if re.fullmatch(HUB_ID, bench.config.model) else None
    path = bench.experiment.judge / MODEL_CARD
    write_whole(path, render_card(summary, base_id, licence_of(Path(bench.base.name))))
    return path


def push_judge(bench: Bench, repository: str) -> str:
    """Upload the judge's own files and its card to `repository`; the address it is at. Raises `HubError`.

    In the copy that is uploaded, `judge.json` names the base as the hub does, not the folder it was found in here, and the card
    states the licence that the hub states of the base.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    judge = bench.experiment.judge
    card = read_judge(judge)
    with tempfile.TemporaryDirectory(prefix="know-thyself-") as scratch:
        copy = Path(scratch) / "judge"
        for name in card.files:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(judge / name, copy / name)
        public = card.model_copy(update={"base": bench.config.model, "experiment": repository})
        (copy / CARD).write_text(public.model_dump_json(indent=2) + "\n")
        try:
            hub = HfApi()
            summary = json.loads(bench.experiment.summary.read_text())
            licence = getattr(hub.model_info(bench.config.model).card_data, "license", None)
            (copy / MODEL_CARD).write_text(render_card(summary, bench.config.model, licence))
            hub.create_repo(repository, exist_ok=True)
            return str(hub.upload_folder(repo_id=repository, folder_path=copy))
        except (OSError, HfHubHTTPError) as error:
            raise HubError(f"{repository} cannot be pushed to ({first_line(error)}): check its name and your token") from error
