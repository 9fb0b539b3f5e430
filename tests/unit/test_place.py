"""Experiments in an object store: what its copy has and lacks, in which order it is put, and who may write."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from know_thyself.config import RunConfig
from know_thyself.engine.protocol import EngineSpec
from know_thyself.errors import ConfigError, StoreError
from know_thyself.experiment import Experiment, experiments_root, find_experiment, write_experiment, writer
from know_thyself.experiment.growing import flush, keep
from know_thyself.experiment.place import (
    address,
    forget,
    here,
    locate,
    move,
    names_of_folders,
    pull,
    push,
    push_instead,
    read_text,
    received,
    remove,
    sent,
    store_of,
    tally,
)
from know_thyself.experiment.store import Store
from know_thyself.experiment.writing import write_whole
from know_thyself.learning.checkpoints import newest
from tests.object_store import Bucket, bucket

MARKER = "_DONE.json"


@pytest.fixture(scope="module")
def store() -> Iterator[Bucket]:
    with bucket() as running:
        yield running


@pytest.fixture
def url(store: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place of the test's own in the store, of which this machine has no copy."""
    store.seen(monkeypatch, tmp_path / "machine")
    return f"{store.url}/{tmp_path.name}"


@pytest.fixture
def root(url: str) -> Path:
    return locate(url)


def written(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def elsewhere(path: Path, monkeypatch: pytest.MonkeyPatch, name: str = "another") -> Path:
    """What `path` is on another machine, where this process is from now on."""
    told = address(path)
    monkeypatch.setenv("KT_SCRATCH", str(Path(os.environ["KT_SCRATCH"]).with_name(name)))
    return here(told)


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def spied(monkeypatch: pytest.MonkeyPatch, method: str) -> list[Path]:
    """The paths that `method` of the store is called with from now on, in their order."""
    called: list[Path] = []
    real = getattr(Store, method)

    def spy(self: Store, told: Any, *more: Any) -> None:
        called.extend([told] if isinstance(told, Path) else told)  # of a mapping, its keys
        real(self, told, *more)

    monkeypatch.setattr(Store, method, spy)
    return called


def test_what_is_pushed_here_is_pulled_there(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(root / "one", a="1", b="22")
    written(folder / "deep" / "er", c="3")
    written(folder / ".hidden", d="4")
    push(folder)
    there = elsewhere(folder, monkeypatch)
    assert not there.exists()
    assert pull(there) == there
    assert names(there) == {"a", "b", "deep/er/c"}
    assert (there / "b").read_text() == read_text(there / "b") == "22"
    assert read_text(there / "none") == ""
    assert names_of_folders(there) == ["deep"]


def test_only_what_differs_comes_and_goes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(root / "one", a="1", b="22")
    push(folder)
    put, fetched = spied(monkeypatch, "put"), spied(monkeypatch, "fetch")
    push(folder)
    pull(folder)
    assert put + fetched == []
    (folder / "a").write_text("111")
    push(folder)
    assert put == [folder / "a"]
    (folder / "b").unlink()
    pull(folder)
    assert fetched == [folder / "b"]


def test_a_file_of_the_same_length_is_another_when_it_is_of_another_time(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(root / "one", a="1")
    push(folder)
    there = pull(elsewhere(folder, monkeypatch))
    (there / "a").write_text("2")
    os.utime(there / "a", (1, 1))
    pull(there)
    assert (there / "a").read_text() == "1"


def test_patterns_choose_by_the_whole_path(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(root / "one", **{"a.json": "1", "b": "2"})
    written(folder / "sub", **{"a.json": "3"})
    push(folder)
    there = elsewhere(folder, monkeypatch)
    assert names(pull(there, "*.json")) == {"a.json"}
    written(there, stray="mine", **{"stray.json": "not in the store"})
    assert names(pull(there, "*.json", "*/a.json")) == {"a.json", "sub/a.json", "stray"}
    written(there, **{"mine.json": "not in the store"})
    assert "mine.json" in names(pull(there, "*.json", exact=False))


def test_what_vouches_comes_and_goes_last(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(root / "one", a="1", z="2", **{MARKER: "{}"})
    put, fetched = spied(monkeypatch, "put"), spied(monkeypatch, "fetch")
    push(folder)
    assert put[-1] == folder / MARKER
    there = elsewhere(folder, monkeypatch)
    pull(there)
    assert fetched[-1] == there / MARKER
    deleted = spied(monkeypatch, "delete")
    remove(there)
    assert deleted[0] == there / MARKER
    assert names(pull(there)) == set()


def test_a_copy_forgets_what_is_not_in_the_store(root: Path) -> None:
    folder = written(root / "one", a="1", b="2")
    push(folder)
    written(folder, b="other", **{MARKER: "never put"})
    written(folder / "torn", c="never put")
    written(folder, **{".lock": ""})
    forget(folder)
    assert names(folder) == {"a", ".lock"}
    assert not (folder / "torn").exists()


def test_files_and_folders_move_and_go_in_the_store_as_well(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(root / "one", a="1")
    written(folder / "step-1", b="2", c="3")
    push(folder)
    (folder / "aside").mkdir()
    move(folder / "step-1", folder / "aside" / "step-1")
    move(folder / "a", folder / "aside" / "a")
    there = pull(elsewhere(folder, monkeypatch))
    assert names(there) == {"aside/step-1/b", "aside/step-1/c", "aside/a"}
    remove(there / "aside" / "a")
    remove(there / "none")
    remove(there / "aside" / "step-1")
    assert names(pull(there)) == set()


def test_a_judge_in_place_of_another_leaves_nothing_of_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(root / "judge", old="1", **{"judge.json": "old"})
    push(folder)
    fresh = written(root / ".judge.partial", new="2", **{"judge.json": "new one"})
    push_instead(folder, fresh)
    there = pull(elsewhere(folder, monkeypatch))
    assert names(there) == {"new", "judge.json"}
    assert (there / "judge.json").read_text() == "new one"


def test_no_machine_sets_a_checkpoint_aside_over_that_of_another(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for content in ("one", "two"):
        push(written(root / "checkpoints" / "step-3", state=content))
        root = elsewhere(root, monkeypatch, content)
        assert newest(root / "checkpoints") is None
    aside = pull(root / "checkpoints" / "_quarantine")
    assert [read_text(aside / f"step-3.{number}" / "state") for number in (1, 2)] == ["one", "two"]


def test_all_machines_count_together(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = root / "one" / "_tried" / "note"
    assert tally(note) == 1
    there = elsewhere(note, monkeypatch)
    assert tally(there) == 2
    remove(there)
    assert tally(there) == 1


def test_what_is_written_whole_and_what_grows_is_put(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(root / "one")
    keep(folder / "log")
    flush()
    write_whole(folder / "whole.json", "{}")
    write_whole(folder / ".partial" / "judge.json", "{}")
    (folder / "log").write_text("a line\n")
    flush()
    assert names(pull(elsewhere(folder, monkeypatch))) == {"whole.json", "log"}


def test_paths_cross_to_another_machine_as_addresses(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = EngineSpec(base=str(root / "model"), device="cpu", mode="swap", max_model_len=8)
    message = {"engine": spec, "parts": [str(root / "a"), "/shared/b"], "count": 3, "text": "what is s3://?"}
    crossed = sent(message)
    assert crossed["engine"].base == f"{address(root)}/model"
    there = elsewhere(root, monkeypatch)
    assert received(crossed) == {
        **message,
        "engine": EngineSpec(base=str(there / "model"), device="cpu", mode="swap", max_model_len=8),
        "parts": [str(there / "a"), "/shared/b"],
    }


def test_for_a_plain_folder_nothing_is_done_but_what_is_said_of_files(tmp_path: Path) -> None:
    folder = written(tmp_path / "one", a="1")
    for act in (pull, push, forget):
        act(folder)
    assert (store_of(folder), address(folder), here(str(folder))) == (None, str(folder), folder)
    assert [tally(tmp_path / "note"), tally(tmp_path / "note")] == [1, 2]
    move(folder / "a", folder / "b")
    assert names(folder) == {"b"}
    remove(folder)
    assert not folder.exists()
    assert locate("relative") == Path.cwd() / "relative"


def test_a_root_in_a_store_is_kept_as_it_was_written(url: str, tmp_path: Path) -> None:
    config = RunConfig(experiments_root=url)
    assert config.model_dump(mode="json")["experiments_root"] == url
    assert experiments_root(config) == locate(url)
    assert RunConfig(experiments_root=str(tmp_path)).experiments_root == tmp_path


@pytest.mark.parametrize(
    "told", ["ftp://bucket/x", "s3://", "s3:///x", "s3://key:secret@bucket/x", "s3://bucket/../x", "s3://bucket/x?region=y"]
)
def test_a_url_that_we_cannot_use_is_refused_with_the_remedy(told: str) -> None:
    with pytest.raises(ConfigError, match=r"is no place that we can use: give a folder, or s3://bucket/prefix or gs://"):
        locate(told)


def test_a_bucket_that_is_not_there_is_refused(root: Path) -> None:
    with pytest.raises(StoreError, match="there is no bucket 'other': make it, or give another"):
        locate("s3://other/x")


def test_a_store_that_nobody_answers_for_is_refused_soon(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(StoreError, match=r"s3://bucket/x cannot be used at http://127.0.0.1:1 \(.*check the bucket"):
        locate("s3://bucket/x")


def config(url: str) -> RunConfig:
    return RunConfig(experiments_root=url, name="one")


def test_another_machine_finds_the_experiment_and_counts_its_attempts(
    url: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with write_experiment(config(url)) as experiment:
        (experiment.logs / "driver.log").write_text("said")
    there = elsewhere(root, monkeypatch)
    assert find_experiment(there, "latest") == Experiment(there / "one")
    with pytest.raises(StoreError, match=rf"no experiment 'two' in {url}: choose one of one"):
        find_experiment(there, "two")
    with write_experiment(config(url)) as experiment:
        assert experiment.attempt == 2
    assert names(pull(experiment.path / "logs")) >= {"attempt_1/driver.log", "attempt_2/config.json"}


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases of seconds; the store's clock tells no less."""
    monkeypatch.setattr(writer, "RENEW", 0.3)
    monkeypatch.setattr(writer, "LAPSE", 2.0)
    monkeypatch.setattr(writer, "LOOK", 0.5)


WRITER = """
import sys
from know_thyself.config import RunConfig
from know_thyself.experiment import write_experiment, writer

writer.RENEW = 0.3
with write_experiment(RunConfig(experiments_root=sys.argv[1], name="one")):
    print("writing", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_writer(url: str, scratch: Path) -> Iterator[None]:
    """A process on another machine that writes the experiment as long as the context lasts, with hasty leases."""
    command = [sys.executable, "-c", WRITER, url]
    environment = {**os.environ, "KT_SCRATCH": str(scratch)}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        yield
        process.stdin.close()
    assert process.returncode == 0


@pytest.mark.usefixtures("hasty")
def test_a_second_writer_on_another_machine_gives_way(url: str, root: Path, tmp_path: Path) -> None:
    told = Mock()
    refused = pytest.raises(StoreError, match=rf"{url}/one is being written by another process: wait for it or stop it")
    with another_writer(url, tmp_path / "other"), refused, write_experiment(config(url), told):
        raise AssertionError("both write")
    told.assert_called_once()
    with write_experiment(config(url), told) as experiment:
        assert experiment.attempt == 2
    told.assert_called_once()


@pytest.mark.usefixtures("hasty")
def test_the_lease_of_a_writer_that_was_killed_is_waited_for(url: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer._Lease, "start", lambda _: None)
    monkeypatch.setattr(writer._Lease, "end", lambda _: None)
    told = Mock()
    with write_experiment(config(url)):
        pass
    elsewhere(root, monkeypatch)
    with write_experiment(config(url), told) as experiment:
        assert experiment.attempt == 2
    assert "for the lease of whoever wrote" in told.call_args.args[0]


def _write_until_stopped(url: str) -> None:
    with write_experiment(config(url)):
        threading.Event().wait(30)


@pytest.mark.usefixtures("hasty")
def test_a_writer_who_may_have_been_taken_for_dead_stops(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "RENEW", 2 * writer.LAPSE)
    with pytest.raises(StoreError, match="lapsed, and another process may have begun to write: run the same command again"):
        _write_until_stopped(url)


def test_a_copy_that_was_lost_is_made_anew(root: Path) -> None:
    folder = written(root / "one", a="1")
    push(folder)
    shutil.rmtree(folder)
    assert names(pull(folder)) == {"a"}
