"""Checkpoints inside an epoch: folders `step-N`, each vouched for by a marker that is written last.

A checkpoint counts only when its marker names every file with its size and SHA-256, and all are so. What does not count is
moved to `_quarantine`, never deleted. Loads nothing heavy.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

from know_thyself.digests import digest_file
from know_thyself.experiment.place import move, names_of_folders, pull, push, remove
from know_thyself.experiment.writing import sync_file, write_whole

COMPLETE, QUARANTINE, PREFIX = "_COMPLETE.json", "_quarantine", "step-"
KEPT = 2
"""Checkpoints kept: the newest, and the one before it should the newest be found damaged."""

logger = logging.getLogger(__name__)


def checkpoint_folder(root: Path, step: int) -> Path:
    """The empty folder under `root` to write the checkpoint of `step` into; what an earlier attempt left there is set aside."""
    folder = root / f"{PREFIX}{step}"
    if folder.exists():
        _set_aside(folder)
    folder.mkdir(parents=True)
    return folder


def seal(folder: Path) -> None:
    """Vouch for all files of the checkpoint `folder`; then remove all checkpoints but the newest `KEPT`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for file in files:
        sync_file(file)
    parts = {str(file.relative_to(folder)): {"bytes": file.stat().st_size, "sha256": digest_file(file)} for file in files}
    push(folder)
    write_whole(folder / COMPLETE, json.dumps(parts, indent=2, sort_keys=True))
    for old in _sealed(folder.parent)[KEPT:]:
        _remove(old)


def newest(root: Path) -> Path | None:
    """The newest checkpoint under `root` that verifies; None when none does. Others that do not verify are set aside."""
    folders = _steps(pull(root, f"{PREFIX}*/*"))
    for folder in folders:
        if not verifies(folder):
            _set_aside(folder)
    return next((folder for folder in folders if folder.exists()), None)


def step_of(folder: Path) -> int:
    """The step of the epoch after which the checkpoint `folder` was written."""
    return int(folder.name.removeprefix(PREFIX))


def verifies(folder: Path) -> bool:
    """Whether the checkpoint `folder` is complete and as it was written."""
    try:
        parts = json.loads((folder / COMPLETE).read_bytes())
        return bool(parts) and all(
            (folder / name).stat().st_size == part["bytes"] and digest_file(folder / name) == part["sha256"]
            for name, part in parts.items()
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def remove_sealed(root: Path) -> None:
    """Remove all checkpoints that were completed: what they were for is done. What was set aside stays."""
    for folder in _sealed(pull(root, f"{PREFIX}*/{COMPLETE}")):
        _remove(folder)


def _steps(root: Path) -> list[Path]:
    """The checkpoints under `root`, complete or not, the newest first."""
    found = [path for path in root.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdigit()]
    return sorted(found, key=step_of, reverse=True)


def _sealed(root: Path) -> list[Path]:
    return [folder for folder in _steps(root) if (folder / COMPLETE).exists()]


def _remove(folder: Path) -> None:
    # Under another name first: half removed, it would look like a damaged checkpoint.
    gone = folder.with_name(f".{folder.name}.removed")
    shutil.rmtree(gone, ignore_errors=True)
    folder.rename(gone)
    shutil.rmtree(gone)
    remove(folder)


def _set_aside(folder: Path) -> None:
    quarantine = folder.parent / QUARANTINE
    quarantine.mkdir(exist_ok=True)
    number = 1 + sum(name.startswith(f"{folder.name}.") for name in names_of_folders(quarantine))
    move(folder, quarantine / f"{folder.name}.{number}")
    logger.warning(
        "checkpoint %s is incomplete or damaged: moved to %s, not used", folder, quarantine / f"{folder.name}.{number}"
    )
