"""The lessons: what each must have, and that it runs.

Notebooks are read as JSON and their cells run as plain Python, so that no Jupyter is needed.
An exercise is four cells: the question; a cell to fill in, where the answer is still None; the
solution in a collapsed block, to be read; and the same as a cell tagged ``solution``, to be run.
"""

import ast
import contextlib
import io
import json
import pathlib
import re
import warnings

import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "docs" / "lessons"
LESSONS = sorted(FOLDER.glob("*.ipynb"))
COUNT = 14
QUICK = {"01", "04", "05", "06"}  # a handful that runs in a few seconds

QUESTION = re.compile(r"\*\*Exercise (\d)\.\*\*")
DETAILS = re.compile(
    r"<details>\n<summary>Solution</summary>\n\n```python\n(.*)\n```\n\n</details>", flags=re.S
)
CHECK = re.compile(r'^check\("Exercise (\d)", (\w+), (\w+)\)$', flags=re.M)
PICTURE = re.compile(r"^(?:plt\.show\(\)|plot\.\w+\(|mg\.graph\()", flags=re.M)


def notebook(path):
    return json.loads(path.read_text(encoding="utf-8"))


def source(cell):
    return "".join(cell["source"])


def cells_of(path, kind):
    return [source(cell) for cell in notebook(path)["cells"] if cell["cell_type"] == kind]


def is_solution(cell):
    return "solution" in cell["metadata"].get("tags", ())


def exercises(cells):
    """Number of each exercise -> its four cells: question, own, to read, to check."""
    found = {}
    for i, cell in enumerate(cells):
        asked = QUESTION.match(source(cell)) if cell["cell_type"] == "markdown" else None
        if asked:
            found[int(asked[1])] = cells[i : i + 4]
    return found


every_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


def test_there_are_as_many_as_promised_and_numbered():
    assert [path.name[:2] for path in LESSONS] == [f"{n:02}" for n in range(1, COUNT + 1)]


@every_lesson
def test_the_question_stands_at_the_top(path):
    first = notebook(path)["cells"][0]
    assert first["cell_type"] == "markdown"
    title, question = source(first).split("\n\n")[:2]
    assert title.startswith(f"# {int(path.name[:2])}. ")
    assert question.startswith("> **Question.** ") and "?" in question


@every_lesson
def test_nothing_generated_is_kept(path):
    content = notebook(path)
    assert content["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in content["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None, source(cell)


@every_lesson
def test_code_is_plain_python_that_needs_no_network(path):
    for code in cells_of(path, "code"):
        compile(code, path.name, "exec")
        for module in imported(code):
            assert module in {
                "math", "matplotlib", "minigrad", "numba", "numpy", "time", "warnings"
            }, module  # fmt: skip
        assert "download" not in code


def imported(code):
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]


@every_lesson
def test_there_are_pictures_and_their_axes_have_names(path):
    codes = cells_of(path, "code")
    assert any(PICTURE.search(code) for code in codes)
    for code in codes:
        if "plt.subplots(" in code:
            assert "set_xlabel(" in code or "set_axis_off()" in code, code
            assert "title(" in code, code


@every_lesson
def test_exercises_can_be_checked_and_are_solved(path):
    cells = notebook(path)["cells"]
    found = exercises(cells)
    assert list(found) == list(range(1, len(found) + 1)) and 2 <= len(found) <= 4
    assert "## Exercises" in "".join(cells_of(path, "markdown"))
    for number, (_, own, read, checked) in found.items():
        (call,) = CHECK.finditer(source(own))
        assert int(call[1]) == number
        assert re.search(rf"^{call[2]} = None\b", source(own), flags=re.M)
        assert f"def {call[3]}(" in source(own)
        assert DETAILS.fullmatch(source(read))[1] == source(checked)
        assert is_solution(checked) and not is_solution(own)
        assert checked["metadata"]["jupyter"]["source_hidden"]
        assert CHECK.search(source(checked))[0] == call[0]
    assert len(found) == sum(is_solution(cell) for cell in cells)


@every_lesson
def test_links_lead_to_files_that_exist(path):
    for text in cells_of(path, "markdown"):
        for target in re.findall(r"\]\(([^)]+)\)", text):
            assert (FOLDER / target).is_file(), target
        for name in re.findall(r"`((?:models|minigrad|benchmarks)/[\w/]+\.py)`", text):
            assert (FOLDER.parents[1] / name).is_file(), name


# -- running them -----------------------------------------------------------------------------


def taken(answer, check, right):
    """Whether a check takes this answer.  To refuse it may raise anything."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check("nonsense", answer, right)
    except Exception:
        return False
    return True


def run(path):
    """Run a lesson's cells: solutions are taken by their checks, and nonsense is not."""
    names = {"__name__": "__main__"}
    for i, cell in enumerate(notebook(path)["cells"]):
        if cell["cell_type"] != "code":
            continue
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(source(cell), f"{path.stem}, cell {i}", "exec"), names)
        call = CHECK.search(source(cell))
        if call:
            wanted = "right" if is_solution(cell) else "no answer yet"
            assert out.getvalue().endswith(f"Exercise {call[1]}: {wanted}\n"), source(cell)
        if call and not is_solution(cell):
            for nonsense in (-12345.678, "nonsense", lambda *args: None):
                assert not taken(nonsense, names["check"], names[call[3]]), source(cell)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=[] if path.name[:2] in QUICK else pytest.mark.slow)
        for path in LESSONS
    ],
)
def test_it_runs(path, tmp_path, monkeypatch):
    import matplotlib

    monkeypatch.chdir(tmp_path)
    before = matplotlib.get_backend()
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = []
    monkeypatch.setattr(
        plt, "show", lambda: shown.append(len(plt.get_fignums())) or plt.close("all")
    )
    try:
        with warnings.catch_warnings():
            run(path)
    finally:
        plt.close("all")
        matplotlib.use(before)
    assert all(count == 1 for count in shown)  # every picture is shown by its own cell
    assert not list(tmp_path.iterdir()), "the lesson left a file behind"


@pytest.mark.parametrize(
    "right, solution, complaint",
    [
        ("answer == 3", 4, "Exercise 1: not yet"),  # the solution has gone stale
        ("True", 3, "def right"),  # the check takes anything
    ],
)
def test_a_stale_solution_and_an_idle_check_are_found(tmp_path, right, solution, complaint):
    checks = cells_of(LESSONS[0], "code")
    (check,) = (code for code in checks if code.startswith("def check("))
    call = 'check("Exercise 1", three, right)'
    codes = [
        check,
        f"three = None\n\n\ndef right(answer):\n    return {right}\n\n\n{call}",
        f"three = {solution}\n{call}",
    ]
    cells = [
        {"cell_type": "code", "source": [code], "metadata": {"tags": ["solution"] * (i == 2)}}
        for i, code in enumerate(codes)
    ]
    path = tmp_path / "01_x.ipynb"
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    with pytest.raises(AssertionError, match=complaint):
        run(path)
