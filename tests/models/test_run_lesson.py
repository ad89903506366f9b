"""models._run: warnings that belong to the lesson, and numbers as arguments."""

import argparse
import warnings

import pytest

from models._arguments import real_number
from models._run import start


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1.5", "wide"])
def test_a_number_outside_its_limits_is_refused(text):
    read = real_number(above=0, most=1)
    assert read("0.25") == 0.25 and read("1") == 1
    with pytest.raises(argparse.ArgumentTypeError, match="larger than 0 and at most 1, got"):
        read(text)
    assert real_number(above=0)("1e9") == 1e9


def test_a_lesson_prints_its_warnings_once_and_hides_no_other(tmp_path, capsys):
    def warn():
        warnings.warn("on purpose", UserWarning, stacklevel=1)

    argv = ["--out", str(tmp_path), "--steps", "3"]
    with start("fake", "", argv, steps=3, smoke_steps=3) as run:
        for _ in range(2):
            with run.lesson():
                for _ in run.steps():
                    warn()
        with pytest.warns(UserWarning, match="on purpose"):
            warn()
    assert capsys.readouterr().out.count("UserWarning: on purpose") == 1
