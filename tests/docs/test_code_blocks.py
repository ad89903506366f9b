"""The Python of README.md and of the pages in docs/ runs, a page at a time, as it stands."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
BLOCK = re.compile(r"^```python[^\n]*\n(.*?)^```", flags=re.S | re.M)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WITH_BLOCKS = [page for page in PAGES if BLOCK.search(page.read_text(encoding="utf-8"))]


def run(page, folder):
    """Run the blocks of a page one after the other in one namespace, working in ``folder``."""
    text = page.read_text(encoding="utf-8")
    names = {"__name__": "__main__"}
    for found in BLOCK.finditer(text):
        # empty lines in front, so that a traceback names the line of the page
        code = "\n" * text[: found.start()].count("\n") + "\n" + found[1]
        exec(compile(code, str(page), "exec"), names)
    return names


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(page, tmp_path)
    assert not list(tmp_path.iterdir()), "a block left a file behind"


def test_the_front_page_prints_what_it_says(tmp_path, capsys):
    run(ROOT / "README.md", tmp_path)
    loss = float(re.search(r"loss (\d+\.\d+)", capsys.readouterr().out)[1])
    assert loss < 0.2


def test_a_wrong_block_is_found(tmp_path):
    page = tmp_path / "page.md"
    blocks = ["```python\nx = 1\n```", "```sh\nnot python\n```", "```python\nx.y\n```"]
    page.write_text("\n\n".join(["# Page", *blocks]))
    with pytest.raises(AttributeError) as caught:
        run(page, tmp_path)
    assert caught.traceback[-1].lineno + 1 == 12
