"""The model card beside a judge, and what of a judge is uploaded: its results, and nothing of a user's."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from know_thyself.config import RunConfig
from know_thyself.data.splits import Questions
from know_thyself.errors import HubError
from know_thyself.evaluation.metrics.summary import summarize
from know_thyself.evaluation.report.card import licence_of, render_card
from know_thyself.judge import write_judge
from know_thyself.pipelines.publishing import push_judge, write_card
from tests.ray.benches import bench_of
from tests.unit.columns import simulated
from tests.unit.test_judge import base, card, trained

__all__ = ["base", "trained"]
SECRET = "/secret/of/somebody"


def a_summary() -> dict[str, Any]:
    facts = summarize(simulated(200, seed=1), 0, replicates=100)
    audit = {"verdict": "The judge knows more about itself than the question reveals: +0.080.", "shown": True}
    return {
        "model": f"{SECRET}/model",
        "dataset": f"{SECRET}/questions",
        "label_mode": "binary",
        "tuning": "lora",
        "seed": 0,
        "best_epoch": 1,
        "epochs": [{"epoch": 1, "validation": facts}],
        "audit": audit,
    }


def test_the_card_holds_the_results_and_no_path() -> None:
    text = render_card(a_summary(), "owner/name", "apache-2.0")
    facts = a_summary()["epochs"][0]["validation"]
    assert text.startswith("---\nbase_model: owner/name\nlicense: apache-2.0\nlibrary_name: peft\n")
    assert f"| AUROC | {facts['auroc']:.3f} ({facts['auroc_low']:.3f} to {facts['auroc_high']:.3f}) |" in text
    assert "than the question reveals: +0.080." in text
    assert SECRET not in text
    assert SECRET not in render_card(a_summary(), None, None)


def test_the_licence_is_the_bases(tmp_path: Path) -> None:
    assert licence_of(tmp_path) is None
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    assert licence_of(tmp_path) == "apache-2.0"


def test_only_a_judge_of_a_hub_model_can_be_pushed() -> None:
    with pytest.raises(ValueError, match="is not on the hub"):
        RunConfig(model="world", push_to_hub="me/judge")
    assert RunConfig(model="Qwen/Qwen2.5-0.5B-Instruct", push_to_hub="me/judge").push_to_hub == "me/judge"


class Hub:
    """Stands in for the hub: remembers what came."""

    files: dict[str, str]

    def model_info(self, name: str) -> SimpleNamespace:
        assert name == "owner/name"
        return SimpleNamespace(card_data=SimpleNamespace(license="apache-2.0"))

    def create_repo(self, repo_id: str, exist_ok: bool) -> None:
        assert (repo_id, exist_ok) == ("me/judge", True)

    def upload_folder(self, repo_id: str, folder_path: Path) -> str:
        Hub.files = {
            str(path.relative_to(folder_path)): path.read_bytes().decode(errors="replace")
            for path in folder_path.rglob("*")
            if path.is_file()
        }
        return f"https://hub/{repo_id}"


def test_what_is_uploaded_is_the_judge_its_card_and_nothing_else(
    tmp_path: Path, base: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RunConfig(model="owner/name", experiments_root=tmp_path, name="run")
    bench = bench_of(tmp_path, Questions(questions=(), dropped={}), config)
    write_judge(bench.experiment.judge, card(base), trained)
    write_card(bench, a_summary())
    bench.experiment.summary.write_text(json.dumps(a_summary()))
    (bench.experiment.judge / "notes.txt").write_text("a question of a user")
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    assert push_judge(bench, "me/judge") == "https://hub/me/judge"
    assert set(Hub.files) == {
        "README.md",
        "judge.json",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "chat_template.jinja",
        "tokenizer.json",
    }
    assert json.loads(Hub.files["judge.json"])["base"] == "owner/name"
    assert "license: apache-2.0" in Hub.files["README.md"]
    assert not [name for name, text in Hub.files.items() if str(tmp_path) in text or "a question of a user" in text]

    def refuse(*_: Any, **__: Any) -> str:
        raise OSError("no network")

    monkeypatch.setattr(Hub, "upload_folder", refuse)
    with pytest.raises(HubError, match="cannot be pushed to"):
        push_judge(bench, "me/judge")
