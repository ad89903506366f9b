"""Imports run one way: models -> nn -> tensor -> ops -> kernels; the walk knows no op.

What a file imports is read from its source, so that an import inside of a function or under
TYPE_CHECKING counts too.
"""

import ast
import importlib
import pathlib
import subprocess
import sys

import pytest

import minigrad
from minigrad import ops

ROOT = pathlib.Path(minigrad.__file__).parent
MODELS = ROOT.parent / "models"

# part of minigrad -> parts it may import, besides itself; who is not named here stands above
# all of these and may import any of them, but nobody may import models
MAY_IMPORT = {
    "errors": "",
    "files": "errors",
    "recording": "",
    "nodes": "errors",
    "spelling": "",
    "notebook": "nodes spelling",
    "memory": "errors nodes",
    "kernels": "errors recording",
    "ops": "errors kernels recording",
    "anomaly": "errors nodes",
    "autodiff": "anomaly errors nodes recording",
    "numpy_protocol": "errors nodes",
    "patterns": "errors nodes ops",
    "methods": "errors nodes ops patterns",
    "tensor": "anomaly autodiff errors methods nodes notebook numpy_protocol ops spelling",
    "creation": "errors numpy_protocol tensor",
    "prepared": "nodes recording tensor",
    "program": "autodiff nodes recording",
    "rerun": "kernels program recording",
    "captured": "anomaly errors kernels nodes program rerun tensor",
    "functional": "errors methods numpy_protocol ops patterns tensor",
    "data": "errors files",
    "nn": "creation errors functional kernels memory nodes notebook ops prepared spelling "
    "tensor",
}
# what a user would write, too
PUBLIC = {
    "minigrad", "minigrad.checkpoint", "minigrad.convert", "minigrad.data", "minigrad.errors",
    "minigrad.files", "minigrad.functional", "minigrad.kernels", "minigrad.nn", "minigrad.optim",
    "minigrad.plot", "minigrad.testing", "minigrad.watch",
}  # fmt: skip
THIRD_PARTY = {"numpy", "numba", "llvmlite", "matplotlib"}


def imports(path, package):
    """Dotted names that a file imports; ``from a import b`` gives ``a.b``."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base]) if base else ".".join(above)
            found += [f"{base}.{alias.name}" for alias in node.names]
    return found


def part_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def package_of(path):
    return ".".join(["minigrad", *path.relative_to(ROOT).parts[:-1]])


def parts_imported(path):
    names = [name.split(".") for name in imports(path, package_of(path))]
    return {name[1] if len(name) > 1 else "" for name in names if name[0] == "minigrad"}


FILES = sorted(ROOT.rglob("*.py"))
LOW = [path for path in FILES if part_of(path) in MAY_IMPORT]


def test_the_reader_of_imports():
    source = ROOT / "ops" / "indexing.py"
    assert "kernels" in parts_imported(source) and "errors" in parts_imported(source)
    assert {part_of(path) for path in LOW} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", LOW, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_run_downwards(path):
    part = part_of(path)
    allowed = {part, *MAY_IMPORT[part].split()}
    wrong = parts_imported(path) - allowed
    assert not wrong, f"minigrad/{part} may not import {sorted(wrong)}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_only_the_three_dependencies(path):
    tops = {name.split(".")[0] for name in imports(path, package_of(path))}
    wrong = tops - set(sys.stdlib_module_names) - THIRD_PARTY - {"minigrad"}
    extra = {"safetensors"} if part_of(path) == "checkpoint" else set()  # if it is installed
    assert wrong <= extra, f"{path.name} imports {sorted(wrong)}"
    assert "matplotlib" not in tops or part_of(path) in ("plot", "_canvas")
    assert not tops & {"numba", "llvmlite"} or part_of(path) == "kernels"


def test_errors_imports_nothing():
    assert set(imports(ROOT / "errors.py", "minigrad")) == {"__future__.annotations"}


@pytest.mark.parametrize("name", ["nodes.py", "autodiff.py"])
def test_the_walk_names_no_op(name):
    """No comparison with an op's name, no op's name as a string, nothing from ops."""
    tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
    names = set(ops.__all__)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            assert node.value not in names, f"{name}:{node.lineno} names {node.value!r}"
        if isinstance(node, (ast.Name, ast.Attribute)):
            word = node.id if isinstance(node, ast.Name) else node.attr
            assert word not in ("ops", "Tensor"), f"{name}:{node.lineno} uses {word}"


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.py")), ids=lambda p: p.name)
def test_models_use_the_public_names_only(path):
    for name in imports(path, "models"):
        parts = name.split(".")
        if parts[0] != "minigrad":
            continue
        assert not any(part.startswith("_") for part in parts), name
        module, attribute = name, None
        if module not in PUBLIC:
            module, attribute = name.rsplit(".", 1)
        assert module in PUBLIC, f"{path.name} imports {name}, which is not public"
        if attribute is not None:
            public = vars(importlib.import_module(module)).get("__all__")
            assert public is None or attribute in public, f"{name} is not in {module}.__all__"


def test_importing_minigrad_brings_no_pictures():
    """matplotlib is only imported when something is drawn."""
    code = "import sys, minigrad; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent).returncode == 0


def test_modules_on_demand_are_found_and_unknown_names_are_not():
    code = (
        "import sys, minigrad as mg;"
        "assert 'minigrad.data' not in sys.modules;"
        "mg.data.load_text, mg.testing.gradcheck, mg.plot.save, mg.watch.GradientFlow;"
        "assert not hasattr(mg, 'nope')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
