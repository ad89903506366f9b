"""The page of results, from made-up results."""

import json

import pytest

from benchmarks import report, startup
from benchmarks.kernels import picture
from benchmarks.scaling import curves

MACHINE = {
    "date": "2026-01-02", "commit": "abc1234", "cpu": "A Processor", "cores": 2, "usable_cores": 2,
    "system": "Linux", "python": "3.12.0", "versions": {"numpy": "2.4"}, "busy_cores": [0.0, 0.1],
}  # fmt: skip


def _contender(name, library, middle, ratio, memory=(100.0, 140.0)):
    return {
        "name": name, "library": library, "quartiles": [middle - 1, middle, middle + 1],
        "ratio": [ratio - 0.1, ratio, ratio + 0.1], "share": [0.4, 0.5, 0.6],
        "compile_seconds": 2.0,
        "to_first_step_seconds": 3.0,
        "memory": None if memory is None else dict(zip(("before", "peak"), memory)),
    }  # fmt: skip


PEERS = {
    "machine": MACHINE, "rounds": 7, "cold": False,
    "cases": [
        {"case": "char_lm", "flops": 1000, "best_peer": "JAX jit", "busy_cores": 0.0,
         "product": [1e11, 2e11, 2e11],
         "left_out": {"tinygrad": "missing: No module named 'tinygrad'"},
         "contenders": [_contender("minigrad", "minigrad", 3000.0, 0.9),
                        _contender("minigrad, captured", "minigrad", 2000.0, 0.6),
                        _contender("JAX jit", "jax", 3333.0, 1.0, None)]},
        {"case": "ptb_lm", "flops": 1000, "best_peer": "JAX jit", "busy_cores": 0.0,
         "product": [1e11, 2e11, 2e11],
         "left_out": {}, "contenders": [_contender("minigrad", "minigrad", 9e5, 0.9),
                                        _contender("JAX jit", "jax", 1e6, 1.0)]},
    ],
}  # fmt: skip
ROOF = {"peak": 1e11, "memory": 1e10, "cache": 8e10}
KERNELS = {
    "machine": MACHINE, "threads": 2, "roofs": {"1": ROOF, "2": ROOF},
    "kernels": [
        {"name": name, "module": module, "program": "ptb_lm", "threads": 2, "microseconds": 50.0,
         "twin_ratio": 4.0, "gflops": 20.0, "intensity": 2.0, "roof_share": 0.5, "bound": "bytes",
         "flops": flops, "bytes": 5e5}
        for name, module, flops in (("matmul", "dense", 1e6), ("relu", "activations", 2e5),
                                    ("gather_rows", "embedding", 0))
    ],
}  # fmt: skip
CURVE = {
    "sizes": [1, 2, 4], "milliseconds": [1.0, 2.0, 4.0], "megabytes": [1.0, 1.0, 1.0],
    "exponents": {"milliseconds": 1.0, "megabytes": 0.0},
}  # fmt: skip
SCALING = {
    "machine": MACHINE,
    "sweeps": {"batch": {"sizes": [1, 2, 4], "fixed": "hidden 8", "curves": {"minigrad": CURVE}}},
}
START = {
    "machine": MACHINE,
    "imports": {"numba": [0.4, 0.5, 0.6], "minigrad": [0.5, 0.6, 0.7]},
    "models": {
        "char_lm": {kind: {part: [1.0, 2.0, 3.0] for part in startup.PARTS}
                    for kind in ("first", "warm")}
    },
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    results = {"peers": PEERS, "kernels": KERNELS, "scaling": SCALING, "startup": START}
    for name, result in results.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
    return tmp_path


def test_the_page(folder, capsys):
    page = folder / "page" / "RESULTS.md"
    assert report.main([str(folder), "--out", str(page)]) == 0
    text = page.read_text()
    assert "2026-01-02, commit abc1234: A Processor" in text and "numpy 2.4" in text
    assert "was quiet" in text and "NOT" not in text
    line = next(line for line in text.splitlines() if line.startswith("| `char_lm` | 2 ms"))
    rest = "0.60 (0.50 to 0.70) | 50% of 200 GFLOP/s | 40 / 140 MB"
    assert f"JAX jit | 3.33 ms | {rest}" in line  # the captured one
    assert "1 of 2 models take at most 0.7" in text
    assert "Left out: tinygrad (missing: No module named 'tinygrad')." in text
    assert "| `matmul` | ptb_lm | 2 | 50 us | 4.0 | 20.00 | 2.00 | 50% | bytes |" in text
    assert "| batch | hidden 8 | minigrad | 1 to 4 | 1.00 | 0.00 | 4 ms | 1 MB |" in text
    assert "| `char_lm`, warm |" in text and "Not measured" not in text
    for name in ("peers", "roofline", "scaling"):
        assert f"pictures/{name}.png" in text
        assert 3000 < (page.parent / "pictures" / f"{name}.png").stat().st_size < 500_000


def test_the_same_results_give_the_same_page(folder, monkeypatch):
    for module in (report.peers, picture, curves):
        monkeypatch.setattr(module, "draw", lambda *a: None)
    pages = [folder / name / "RESULTS.md" for name in "ab"]
    for page in pages:
        report.write(folder, page)
    assert pages[0].read_text() == pages[1].read_text()


def test_what_was_not_measured_is_named(folder, capsys):
    (folder / "scaling.json").unlink()
    assert report.main([str(folder), "--out", str(folder / "RESULTS.md")]) == 0
    assert "not measured: scaling" in capsys.readouterr().out
    assert "Not measured: `python -m benchmarks.scaling`." in (folder / "RESULTS.md").read_text()


def test_an_empty_folder(tmp_path, capsys):
    assert report.main([str(tmp_path), "--out", str(tmp_path / "RESULTS.md")]) == 2
    assert not (tmp_path / "RESULTS.md").exists()


def test_a_machine_that_was_not_quiet_is_said_to_be():
    machine = MACHINE | {"busy_cores": [0.0, 1.5]}
    assert "not quiet: other work kept 1.5 cores busy" in report.head({"machine": machine})


def test_durations():
    assert [report.duration(t) for t in (0.5, 57, 1750, 2.5e6)] == [
        "0.5 us", "57 us", "1.75 ms", "2.5 s",
    ]  # fmt: skip


def test_startup_table():
    text = startup.table(START)
    assert "minigrad takes +100 ms beside Numba" in text
    assert "char_lm, first" in text and "char_lm, warm" in text


def test_medians_over_rounds():
    rounds = [dict.fromkeys(startup.PARTS, value) for value in (1.0, 2.0, 9.0)]
    assert startup.medians(rounds)["build"] == [1.5, 2.0, 5.5]
