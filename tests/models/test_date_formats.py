"""Dates: what is made, what is read, a gate, the program and its prompt."""

import datetime
import io
import json
import sys

import numpy as np
import pytest

from minigrad.errors import DataError
from models import date_formats as dates

DAY = datetime.date(2026, 11, 3)


def test_every_form_of_one_day():
    forms = [dates.written(DAY, form) for form in range(len(dates.FORMS))]
    assert forms == [
        "nov 3, 2026", "november 3, 2026", "3 nov 2026", "3 november 2026", "3. november 2026",
        "november 3rd, 2026", "nov 3rd 2026", "the 3rd of november, 2026",
        "tuesday, 3 november 2026", "tue, nov 3, 2026", "3-nov-26", "nov '26, 3rd", "11/3/2026",
        "11/03/26", "3.11.2026", "03.11.26", "2026/11/03", "03-11-2026",
    ]  # fmt: skip


def test_no_two_days_look_alike_in_one_form():
    days = [dates.FIRST + datetime.timedelta(days=i) for i in range(0, dates.DAYS, 7)]
    for form in range(len(dates.FORMS)):
        assert len({dates.written(day, form) for day in days}) == len(days)
    last = dates.FIRST + datetime.timedelta(days=dates.DAYS - 1)
    assert last == datetime.date(2069, 12, 31)


def test_ordinals():
    words = "1st 2nd 3rd 4th 10th 11th 12th 13th 14th 20th 21st 22nd 23rd 30th 31st".split()
    assert [dates._ordinal(int(word[:-2])) for word in words] == words


def test_encoding_is_undone_and_reads_upper_case():
    text = "Sat,  Nov 21, '26"
    assert dates.decode([*dates.encode(text), dates.EOS, dates.PAD]) == "sat, nov 21, '26"
    assert dates.encode("a").min() > dates.EOS
    for bad in ("", "  ", "2026–11–21", "21 März"):
        with pytest.raises(DataError):
            dates.encode(bad)


def test_pairs_belong_together_and_days_are_those_given():
    days = np.array([5, 20_000])
    sources, targets = dates.pairs(50, days, np.random.default_rng(0))
    isos = {"1970-01-06", "2024-10-04"}
    forms = {
        dates.written(dates.FIRST + datetime.timedelta(days=int(day)), form): iso
        for day, iso in zip(days, sorted(isos)) for form in range(len(dates.FORMS))
    }  # fmt: skip
    for source, target in zip(sources, targets, strict=True):
        assert target[-1] == dates.EOS and dates.decode(target) == forms[dates.decode(source)]
    assert {dates.decode(target) for target in targets} == isos


def test_gate_and_program(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(dates, "TRAIN", 1000)
    monkeypatch.setattr(dates, "TEST", 30)
    monkeypatch.setattr(sys, "stdin", io.StringIO("3 may 1999\n3 März\n\nnot read\n"))
    dates.main(["--steps", "40", "--out", str(tmp_path), "--ask", "--date", "Nov 21, 2026"])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["padding"] < 0.1 < 0.3 < metrics["padding_without_buckets"]
    files = {path.name for path in tmp_path.glob("*.[pj]*")}
    assert files == {"exact_match.png", "attention.png", "beam_tree.png", "metrics.json"}
    said = capsys.readouterr().out
    assert "Nov 21, 2026: " in said and "'ä' is unknown" in said and "not read" not in said
    assert "%" in said.split("date> ")[1].splitlines()[0]
    assert metrics["last_loss"] < 2.4  # 3.8 is guessing
    assert "6 buckets: padding is" in said


def test_a_bad_date_is_refused_before_training(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        dates.main(["--date", "21 März", "--out", str(tmp_path)])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.startswith("date_formats: error: the sign 'ä'")
    assert len(error.strip().splitlines()) == 1


@pytest.mark.slow
def test_whole_run(tmp_path):
    dates.main(["--out", str(tmp_path)])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["metric"]["value"] >= dates.TARGET
