"""minigrad.data as a package: what it imports, what it ships, and its docstrings' examples."""

import ast
import configparser
import doctest
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import minigrad.data
from minigrad.data import loader, pipeline, text

FOLDER = Path(minigrad.data.__file__).parent


def test_importing_it_does_not_import_matplotlib():
    code = "import sys, minigrad.data; sys.exit('matplotlib' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parents[1])}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.name)
def test_it_stands_on_numpy_the_standard_library_errors_and_files(file):
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
                assert (level, module) in {(2, "errors"), (2, "files")}, module


def test_the_packaged_files_are_those_the_readme_describes():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    data = [*FOLDER.glob("*.gz"), *FOLDER.glob("*.csv")]
    assert len(data) == 4
    for file in data:
        assert f"## {file.name}\n" in readme
        assert hashlib.sha256(file.read_bytes()).hexdigest() in readme
        assert f"{file.stat().st_size:,} bytes" in readme
    for credit in (
        "Open Knowledge Foundation, Open Shakespeare", "CC BY 2.5", "public domain",
        "Yann LeCun and Corinna\nCortes", "CC BY-SA 3.0",
        "E. Alpaydin and C. Kaynak", "CC BY 4.0", "scikit-learn", "R. A. Fisher",
    ):  # fmt: skip
        assert credit in readme


def test_the_package_data_of_setup_cfg_take_every_file_along():
    setup = configparser.ConfigParser()
    setup.read(FOLDER.parents[1] / "setup.cfg", encoding="utf-8")
    patterns = setup["options.package_data"]["minigrad.data"].split(", ")
    for file in FOLDER.iterdir():
        if file.is_file() and file.suffix != ".py":
            assert any(file.match(pattern) for pattern in patterns), file.name


def test_every_public_name_is_there_and_documented():
    for name in minigrad.data.__all__:
        assert getattr(minigrad.data, name).__doc__


@pytest.mark.parametrize("module", [loader, pipeline, text], ids=lambda module: module.__name__)
def test_docstring_examples(module):
    result = doctest.testmod(module)
    assert result.attempted > 0 and result.failed == 0
