"""minigrad.data as a package: what it imports, what it ships, and its docstrings' examples."""

import ast
import doctest
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import minigrad.data
from minigrad.data import loader, text

FOLDER = Path(minigrad.data.__file__).parent


def test_importing_it_does_not_import_matplotlib():
    code = "import sys, minigrad.data; sys.exit('matplotlib' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parents[1])}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.name)
def test_it_stands_on_numpy_the_standard_library_and_errors(file):
    siblings = {other.stem for other in FOLDER.glob("*.py")}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules = [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [(node.level, node.module or "")]
        else:
            continue
        for level, module in modules:
            top = module.split(".")[0]
            if level == 0:
                assert top == "numpy" or top in sys.stdlib_module_names, module
            elif level == 1:
                assert top in siblings, module
            else:
                assert (level, module) == (2, "errors"), module


def test_the_packaged_files_are_those_the_readme_describes():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for file in FOLDER.glob("*.gz"):
        assert f"## {file.name}" in readme
        assert hashlib.sha256(file.read_bytes()).hexdigest() in readme
    for credit in ("Open Knowledge Foundation, Open Shakespeare", "CC BY 2.5", "public domain"):
        assert credit in readme


def test_every_public_name_is_there_and_documented():
    for name in minigrad.data.__all__:
        assert getattr(minigrad.data, name).__doc__


@pytest.mark.parametrize("module", [loader, text], ids=lambda module: module.__name__)
def test_docstring_examples(module):
    result = doctest.testmod(module)
    assert result.attempted > 0 and result.failed == 0
