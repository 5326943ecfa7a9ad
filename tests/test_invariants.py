"""What a stage reads is what dvc.yaml says that it reads: its parameters, leaf by leaf, and its code."""

import ast
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
ITEMS = ("saliency", "depth", "shading")


def definition(stage: str) -> dict:
    return STAGES[stage].get("do", STAGES[stage])


def module_file(module: str) -> Path | None:
    """The file of a module of ours, or None if it is somebody else's."""
    base = ROOT / module.replace(".", "/")
    for file in (base.with_suffix(".py"), base / "__init__.py"):
        if file.exists():
            return file
    return None


def imported_files(file: Path, seen: set[Path]) -> set[Path]:
    """The file and all of ours that it imports, directly or not. A dynamic import of a module counts as its folder."""
    if file in seen:
        return seen
    seen.add(file)
    for node in ast.walk(ast.parse(file.read_text())):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.JoinedStr) and str(getattr(node.values[0], "value", "")).startswith("scenescope."):
            folder = ROOT / node.values[0].value.rstrip(".").replace(".", "/")
            modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in folder.glob("*.py")]
        for module in modules:
            found = module_file(module)
            if found:
                imported_files(found, seen)
    return seen


def code(paths: set[Path]) -> set[str]:
    """Files as names below the root, without the ``__init__.py`` that hold no more than a docstring."""
    return {str(path.relative_to(ROOT)) for path in paths if path.name != "__init__.py" or "import" in path.read_text()}


@pytest.mark.parametrize("stage", STAGES)
def test_imports_are_declared_dependencies(stage):
    declared = {ROOT / dep for dep in definition(stage)["deps"] if dep.startswith(("stages/", "scenescope/"))}
    declared = {file for dep in declared for file in (dep.rglob("*.py") if dep.is_dir() else [dep])}
    assert code(imported_files(ROOT / "stages" / f"{stage}.py", set())) == code(declared)


def parameters_read(stage: str) -> set[str]:
    """Every chain params.a.b in a stage's module."""
    tree = ast.parse((ROOT / "stages" / f"{stage}.py").read_text())
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    chains = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            text = ast.unparse(node)
            if text.startswith("params."):
                chains.add(text.removeprefix("params."))
        if isinstance(node, ast.Name) and node.id == "params":
            assert id(node) in inner, f"{stage} passes all parameters on, so nobody can tell which it reads"
    return chains


@pytest.mark.parametrize("stage", STAGES)
def test_parameters_read_are_parameters_declared(stage):
    declared = {re.sub(r"\.\$\{\w+\}$", "", name) for name in definition(stage).get("params", [])}
    assert parameters_read(stage) == declared


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_says_what_it_does(stage):
    assert definition(stage)["desc"].endswith(".")


def test_every_parameter_is_used_and_has_a_comment():
    text = (ROOT / "params.yaml").read_text()
    used = set().union(*(parameters_read(stage) for stage in STAGES))
    # Where the work is done changes no result, so no stage depends on it: only stages/sharing.py reads it.
    leaves = {leaf for leaf in leaf_names(yaml.safe_load(text)) if not leaf.startswith("compute.")}
    assert used == {re.sub(rf"\.({'|'.join(ITEMS)})$", "", leaf) for leaf in leaves}
    assert not [line for line in text.splitlines() if not line.split("#")[0].rstrip().endswith(":") and "#" not in line]


def leaf_names(values: dict, prefix: str = ""):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaf_names(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
