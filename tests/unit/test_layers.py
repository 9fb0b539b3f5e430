"""Who may import whom: a lower layer never imports a higher one, and what is heavy stays where it is needed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
LAYERS = (
    "types errors",
    "artefacts asking digests progress prompts grading labeling wire evaluation client",
    "config experiment journal judge models data world",
    "compute engine learning stages evaluation.report testing",
    "pipelines client.local client.integrations cost doctor inspection",
    "cli",
)
LAYER_OF = {f"know_thyself.{name}": layer for layer, names in enumerate(LAYERS) for name in names.split()}
LAYER_OF |= {"jobs": 5, "serve": 5}
HEAVY = {"deepspeed", "peft", "ray", "torch", "transformers", "vllm"}
MAY_BE_HEAVY = (
    "know_thyself.compute",
    "know_thyself.engine",
    "know_thyself.learning",
    "know_thyself.stages",
    "know_thyself.world.model",
    "know_thyself.client.local",
    "serve",
)


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {
    module_name(file): ast.parse(file.read_text(encoding="utf-8"), file)
    for package in ("know_thyself", "jobs", "serve")
    for file in sorted((ROOT / package).rglob("*.py"))
}


def inside(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def layer(module: str) -> int:
    """The layer of the longest name in the table that `module` is inside; `KeyError` names a module that has no place yet."""
    if module == "know_thyself":
        return 0
    return LAYER_OF[max((name for name in LAYER_OF if inside(module, name)), key=len, default=module)]


def nodes(node: ast.AST, at_import: bool) -> Iterator[ast.AST]:
    """All nodes under `node`, or those alone that run at import: not in functions, not for type checkers."""
    for child in ast.iter_child_nodes(node):
        lazy = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not at_import or not (lazy or typing):
            yield child
            yield from nodes(child, at_import)


def imports(module: str, at_import: bool = False) -> set[str]:
    """What `module` imports, by full name."""
    found = set()
    for node in nodes(MODULES[module], at_import):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            found |= {full if full in MODULES else node.module for full in names.values()}
    return found


EDGES = [(importer, name) for importer in MODULES for name in sorted(imports(importer)) if name in MODULES]


def test_a_lower_layer_never_imports_a_higher_one() -> None:
    assert [edge for edge in EDGES if layer(edge[0]) < layer(edge[1])] == []


def test_no_module_imports_itself_in_the_end() -> None:
    graph = TopologicalSorter({importer: {to for source, to in EDGES if source == importer} for importer in MODULES})
    graph.prepare()  # raises CycleError, which names the cycle


def test_stages_meet_through_types_and_the_experiment_folder_alone() -> None:
    assert [edge for edge in EDGES if all(inside(module, "know_thyself.stages") for module in edge)] == []


def test_jobs_and_service_know_nothing_of_each_other() -> None:
    assert [(a, b) for a, b in EDGES if {a.partition(".")[0], b.partition(".")[0]} == {"jobs", "serve"}] == []


def test_production_never_imports_the_fakes() -> None:
    assert [edge for edge in EDGES if edge[1] == "know_thyself.testing"] == []


def test_heavy_libraries_load_only_where_models_run() -> None:
    light = [module for module in MODULES if not inside(module, *MAY_BE_HEAVY)]
    heavy = {module: {name for name in imports(module, at_import=True) if name.partition(".")[0] in HEAVY} for module in light}
    assert {module: names for module, names in heavy.items() if names} == {}
