"""Content digests: of settings, of files, of tables. SHA-256 throughout, written in hexadecimal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SHORT = 12
_MODULUS = 1 << 256
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
"""Made once: `json.dumps` with settings makes one anew for every row."""


def digest_json(value: Any) -> str:
    """Digest of a JSON-ready value; the order of keys does not matter."""
    return _digest(value).hex()


def digest_list(values: Iterable[Any]) -> str:
    """`digest_json` of the list of `values`, one of which at a time need be there."""
    found = hashlib.sha256(b"[")
    for number, value in enumerate(values):
        found.update(("," if number else "").encode() + _ENCODER.encode(value).encode())
    found.update(b"]")
    return found.hexdigest()


def digest_rows(rows: Iterable[Mapping[str, Any]], so_far: str = "0") -> str:
    """Digest of a set of rows, whatever their order: the sum of the rows' digests, added to `so_far`."""
    total = int(so_far, 16)
    for row in rows:
        total += int.from_bytes(_digest(row), "big")
    return f"{total % _MODULUS:064x}"


def _digest(value: Any) -> bytes:
    return hashlib.sha256(_ENCODER.encode(value).encode()).digest()


def digest_file(path: Path) -> str:
    """Digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_files(folder: Path, patterns: Iterable[str]) -> str:
    """Digest of the names and bytes of the files of `folder` that match any of `patterns`."""
    names = sorted({path.name for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    return digest_json({name: digest_file(folder / name) for name in names})
