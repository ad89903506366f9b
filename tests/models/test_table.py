"""python -m models: one table, in any terminal, of every model there is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import models
from models import MODELS, Model
from models.__main__ import main, table

FOLDER = Path(models.__file__).parent
LONG = Model("a_rather_long_name", "document " * 9, "learns " * 30, "expected " * 20, "20 s")


def words(text):
    return text.replace("|", " ").split()


def test_every_model_is_in_the_table_and_every_entry_is_a_model():
    files = {path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_")}
    names = [model.name for model in MODELS]
    assert set(names) == files and len(names) == len(files)


def test_no_cell_is_empty():
    for model in MODELS:
        assert all(vars(model).values())


@pytest.mark.parametrize("width", [30, 45, 60, 80, 100, 200, 1000])
def test_the_table_fits_and_loses_nothing(width):
    text = table([*MODELS, LONG], width)
    assert max(map(len, text.splitlines())) <= width
    for model in (*MODELS, LONG):
        for cell in vars(model).values():
            for word in set(words(cell)):
                assert text.count(word) >= words(cell).count(word), word


@pytest.mark.parametrize("width", [80, 100, 200])
def test_the_columns_are_aligned(width):
    lines = table([*MODELS, LONG], width).splitlines()
    rule = next(line for line in lines if set(line) == {"-", " "})
    starts = [i for i in range(len(rule)) if rule[i] == "-" and (i == 0 or rule[i - 1] == " ")]
    assert len(starts) == 5
    for line in lines:
        for start in starts[1:]:
            assert line[start - 2 : start].strip() == "", line
    head = lines[0]
    assert head.startswith("model") and head[starts[1] :].startswith("document")


def test_it_is_what_the_command_prints():
    result = subprocess.run(
        [sys.executable, "-m", "models"], cwd=FOLDER.parent, capture_output=True, text=True,
        env={**os.environ, "COLUMNS": "90"},
    )  # fmt: skip
    assert result.returncode == 0 and result.stderr == ""
    assert result.stdout.startswith(table(MODELS, 90))
    assert "python -m models.NAME --help" in result.stdout


def test_a_surplus_argument_is_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["char_lm"])
    assert caught.value.code == 2 and "char_lm" in capsys.readouterr().err
