"""The README's Python runs, and says what it prints."""

import pathlib
import re

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text()


def test_python_blocks_run(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    loss = float(re.search(r"loss (\d+\.\d+)", capsys.readouterr().out)[1])
    assert loss < 0.2


def test_the_example_is_short():
    (block,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    assert sum(bool(line.strip()) for line in block.splitlines()) <= 17


def test_files_it_names_exist():
    root = pathlib.Path(__file__).parents[1]
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (root / target).is_file(), target
    for target in re.findall(r"`((?:models|minigrad)/[\w/]+\.py)`", README):
        assert (root / target).is_file(), target


def test_no_machine_specific_paths():
    root = pathlib.Path(__file__).parents[1]
    folders = ["minigrad", "models", "benchmarks", "tests"]
    files = [path for folder in folders for path in (root / folder).rglob("*.py")]
    files += [root / name for name in ("README.md", "Makefile", "setup.cfg", "pyproject.toml")]
    needles = ("/" + "work/", "/" + "root/", "/" + "home/")
    found = [p for p in files if any(needle in p.read_text() for needle in needles)]
    assert not found
