"""The README's example is short; what it runs and links to is tested in tests/docs."""

import pathlib
import re

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text()


def test_the_example_is_short():
    (block,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    assert sum(bool(line.strip()) for line in block.splitlines()) <= 17


def test_no_machine_specific_paths():
    root = pathlib.Path(__file__).parents[1]
    folders = ["minigrad", "models", "benchmarks", "tests"]
    files = [path for folder in folders for path in (root / folder).rglob("*.py")]
    top = "README.md", "Makefile", "mkdocs.yml", "setup.cfg", "pyproject.toml"
    files += [root / name for name in top]
    files += [path for kind in ("md", "ipynb", "py") for path in (root / "docs").rglob(f"*.{kind}")]
    needles = ("/" + "work/", "/" + "root/", "/" + "home/")
    found = [p for p in files if any(needle in p.read_text() for needle in needles)]
    assert not found
