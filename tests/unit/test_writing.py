"""Writing: after a fault, a full disk or a kill at any point, a file is the old or the new one."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from know_thyself.errors import StoreError
from know_thyself.experiment import write_whole


class Faults:
    """Makes the nth call that touches the disk raise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left, self.code = -1, errno.EIO
        for owner, call in ((os, "fsync"), (os, "open"), (Path, "open"), (Path, "replace"), (Path, "mkdir")):
            monkeypatch.setattr(owner, call, self._wrap(getattr(owner, call)))

    def _wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                raise OSError(self.code, os.strerror(self.code))
            return call(*arguments, **named)

        return wrapped


def test_a_write_that_fails_anywhere_leaves_the_old_or_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.json"
    faults = Faults(monkeypatch)
    found = []
    for fault in range(1, 20):
        write_whole(path, "old")
        faults.left = fault
        if not fails(path):
            break
        found.append(path.read_text())
        assert [file.name for file in tmp_path.iterdir()] == ["summary.json"]
    assert faults.left > 0
    assert found.count("old") >= 4
    assert set(found) == {"old", "new"}


def fails(path: Path) -> bool:
    try:
        write_whole(path, "new")
    except StoreError:
        return True
    return False


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_with_the_space_left_and_keeps_what_was_there(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "summary.json"
    write_whole(path, "old")
    faults = Faults(monkeypatch)
    for fault in range(1, 4):
        faults.left, faults.code = fault, code
        with pytest.raises(StoreError, match=r"no space left for .* \(\d+ MiB free\): make room"):
            write_whole(path, "new")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["summary.json"]


def test_a_killed_writer_leaves_the_old_file_and_the_next_write_succeeds(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_whole(path, "old")
    killed = "import os, sys, pathlib; pathlib.Path.replace = lambda *_: os.kill(os.getpid(), 9)\n"
    killed += "from know_thyself.experiment import write_whole; write_whole(pathlib.Path(sys.argv[1]), 'new')"
    assert subprocess.run([sys.executable, "-c", killed, str(path)], check=False).returncode == -9
    assert path.read_text() == "old"
    write_whole(path, "newer")
    assert path.read_text() == "newer"
