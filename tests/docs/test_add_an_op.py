"""docs/tour/add_an_op.md, followed to the letter in a copy of the project."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tour" / "add_an_op.md"
STEP = re.compile(r'^```(py|diff) title="([^"]+)"\n(.*?)^```', flags=re.S | re.M)


def add_lines(text, diff):
    """The text with the lines marked + behind the lines of the diff that are marked by a blank."""
    lines = [line for line in diff.split("\n") if line]
    before = "\n".join(line[1:] for line in lines if line[0] == " ")
    added = "\n".join(line[1:] for line in lines if line[0] == "+")
    where = f"\n{text}".index(f"\n{before}\n")  # raises if the page is behind the file
    assert all(line[0] in " +" for line in lines)
    end = where + len(before)
    return f"{text[:end]}\n{added}{text[end:]}"


def follow(folder):
    """Make all the changes of the page in a folder."""
    for kind, name, block in STEP.findall(PAGE.read_text(encoding="utf-8")):
        path = folder / name
        if kind == "py":
            assert not path.exists(), name
            path.write_text(block)
        else:
            path.write_text(add_lines(path.read_text(), block))


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    others = shutil.ignore_patterns("goldens", "*.gz", "*.csv", "lessons")
    for name in ("minigrad", "tests", "docs"):
        # with __pycache__: what Numba has compiled is good in the copy as well
        shutil.copytree(ROOT / name, folder / name, ignore=others)
    shutil.copy(ROOT / "pyproject.toml", folder)
    follow(folder)
    return folder


def run(copy, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=copy, env={**os.environ, "PYTHONPATH": str(copy)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return int(re.search(r"(\d+) passed", done.stdout)[1])


def test_what_it_says_works(copy):
    """The tests that it writes pass, and those that look for what was forgotten."""
    files = ("kernels/test_kernels", "ops/test_gating", "ops/test_gradients", "nn/test_gating",
             "docs/test_links", "test_imports")  # fmt: skip
    which = "gated or gating or every_kernel or no_kernel or every_op or every_public or comes_past"
    assert run(copy, *(f"tests/{name}.py" for name in files), "-k", which) > 60


def test_a_wrong_gradient_is_found(copy):
    path = copy / "minigrad" / "kernels" / "gating.py"
    path.write_text(path.read_text().replace("db[k] = g[k] * a[k]", "db[k] = g[k]"))
    for name in ("ops/test_gradients", "kernels/test_kernels"):
        with pytest.raises(AssertionError, match="1 failed"):
            run(copy, f"tests/{name}.py", "-k", "gated", "-x")
