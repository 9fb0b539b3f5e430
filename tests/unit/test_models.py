"""Models: found where their name says, known by their weights, refused in one line when they are not there."""

from __future__ import annotations

import json
import struct
from fnmatch import fnmatch
from pathlib import Path

import pytest

from know_thyself.errors import ConfigError
from know_thyself.models import bring, packaged_world, resolve_model

FILES = ("config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "tokenizer.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    for name in FILES:
        (made / name).write_bytes(content(name))
    return made


def content(name: str, told: str = "first") -> bytes:
    """What the file `name` may hold: JSON, or a safetensors header with no tensor below."""
    text = json.dumps({"__metadata__": {"told": told}}).encode()
    return (struct.pack("<Q", len(text)) if name.endswith(".safetensors") else b"") + text


@pytest.fixture
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The hub is not to be reached, and nothing of it is cached."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


def test_a_folder_is_itself_absolute_wherever_it_is_named_from(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    found = resolve_model("model", None)
    assert found == resolve_model(str(folder), None)
    assert found.name == str(folder)
    monkeypatch.setenv("HOME", str(folder.parent))
    assert resolve_model("~/model", None) == found


@pytest.mark.parametrize("name", [*FILES, "chat_template.jinja", "model.safetensors.index.json", "modeling_own.py"])
def test_a_change_of_any_file_that_decides_answers_makes_another_model(name: str, folder: Path) -> None:
    before = resolve_model(str(folder), None).digest
    (folder / "README.md").write_text("words")
    assert resolve_model(str(folder), None).digest == before
    (folder / name).write_bytes(content(name, "changed"))
    assert resolve_model(str(folder), None).digest != before


@pytest.mark.parametrize(
    ("lost", "left", "told"),
    [
        ("config.json", ".bin", r"holds no config\.json with \*\.safetensors beside it: give"),
        ("*.safetensors", ".txt", r"holds no config\.json with \*\.safetensors beside it: give"),
        ("*.safetensors", ".bin", r"has its weights in model-00001-of-00002\.bin, a pickle"),
    ],
)
def test_a_folder_without_configuration_or_safe_weights_is_refused(lost: str, left: str, told: str, folder: Path) -> None:
    for file in folder.glob(lost):
        file.rename(file.with_suffix(left))
    with pytest.raises(ConfigError, match=told):
        resolve_model(str(folder), None)


@pytest.mark.parametrize(
    "name", ["/no/such/folder", "./nowhere", "~/nowhere", "~nobody/x", "gpt2", "a/b/c", "-", "https://x.org/m"]
)
def test_what_is_neither_a_folder_nor_a_hub_id_is_refused_without_a_look_at_the_hub(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", None)
    with pytest.raises(ConfigError, match="is neither a folder nor a hub id"):
        resolve_model(name, None)


@pytest.mark.usefixtures("_offline")
@pytest.mark.parametrize("name", ["owner/name", "owner/na me", "owner/--name", "owner/" + "n" * 200])
def test_a_hub_model_that_cannot_be_fetched_is_one_clear_line(name: str) -> None:
    with pytest.raises(ConfigError, match="is no folder here and cannot be fetched from the hub") as caught:
        resolve_model(name, "main")
    assert name in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_hub_model_is_fetched_whole_but_without_second_copies(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sharded = [*FILES, "model.safetensors.index.json", "chat_template.jinja", "merges.txt"]
    others = ["README.md", "pytorch_model.bin", "original/model.safetensors", "original/config.json", "onnx/model.onnx"]
    fetched: list[str] = []

    def snapshot_download(
        name: str, revision: str | None, cache_dir: Path | None, allow_patterns: list[str], ignore_patterns: str
    ) -> str:
        assert (name, revision, cache_dir) == ("owner/name", "v1", None)
        allowed = [name for name in [*sharded, *others] if any(fnmatch(name, pattern) for pattern in allow_patterns)]
        fetched.extend(name for name in allowed if not fnmatch(name, ignore_patterns))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    found = resolve_model("owner/name", "v1")
    assert (found.name, found.revision) == (str(folder), "v1")
    assert fetched == sharded


COMMIT = "c" * 40


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None, Path | None]]:
    """What is asked of the hub, as repository, commit and cache; it lays the model down where the hub's cache has it."""
    calls: list[tuple[str, str | None, Path | None]] = []

    def snapshot_download(name: str, *, revision: str | None, cache_dir: Path | None, **_: object) -> str:
        calls.append((name, revision, cache_dir))
        assert cache_dir is not None
        found = cache_dir / f"models--{name.replace('/', '--')}" / "snapshots" / str(revision)
        found.mkdir(parents=True, exist_ok=True)
        for file in FILES:
            (found / file).write_bytes(content(file))
        return str(found)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return calls


def test_a_node_fetches_what_the_driver_found_on_the_hub(
    tmp_path: Path, asked: list[tuple[str, str | None, Path | None]]
) -> None:
    elsewhere = tmp_path / "cache" / "models--owner--a-name" / "snapshots" / COMMIT
    assert bring(elsewhere) == elsewhere
    assert asked == [("owner/a-name", COMMIT, tmp_path / "cache")]
    assert sorted(file.name for file in elsewhere.iterdir()) == sorted(FILES)
    assert bring(tmp_path / "plain") == tmp_path / "plain"
    assert len(asked) == 1


def test_a_judges_base_of_the_hub_is_found_on_another_machine(
    monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    asked: list[tuple[str, str | None]] = []

    def snapshot_download(name: str, *, revision: str | None, **_: object) -> str:
        asked.append((name, revision))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    found = resolve_model(str(tmp_path / "hub" / "models--owner--name" / "snapshots" / COMMIT), None)
    assert asked == [("owner/name", COMMIT)]
    assert found.name == str(folder)


@pytest.mark.parametrize("name", ["world", "."])
def test_a_revision_of_a_folder_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="revision='v1' is for models of the hub"):
        resolve_model(name, "v1")


def test_a_copy_without_a_world_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("know_thyself.models.resources.files", lambda _: tmp_path)
    with pytest.raises(ConfigError, match="know-thyself world build"):
        packaged_world()
