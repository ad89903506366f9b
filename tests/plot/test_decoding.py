"""Pictures of attention and of beams: what is in them, and what is refused."""

import numpy as np
import pytest

from minigrad import plot
from minigrad.errors import ArgumentError, IndexRangeError, ShapeError
from minigrad.nn.seq2seq import Beams, Tree

EOS = 1


def _texts(figure):
    figure.canvas.draw()
    return [t.get_text() for axes in figure.axes for t in axes.texts]


def _beams(alignments=True):
    """Two steps and EOS, two beams: 5 6 EOS, and 5 EOS; a third one, 4, dies at once."""
    ids = np.array([[[5, 4], [6, EOS], [EOS, EOS]]])
    parents = np.array([[[0, 0], [0, 0], [0, 1]]])
    scores = np.array([[[-0.1, -2.5], [-0.2, -1.5], [-0.3, -1.5]]])
    ended = np.array([[[False, False], [False, True], [True, True]]])
    looks = np.zeros((1, 2, 3, 4))
    looks[0, 0, np.arange(3), [2, 0, 1]] = 1
    return Beams(
        np.array([[[5, 6, EOS], [5, EOS, EOS]]]), np.array([[3, 2]]), np.log([[0.7, 0.2]]),
        scores[:, -1], looks if alignments else None, Tree(ids, parents, scores, ended),
    )  # fmt: skip


def test_a_tree_with_its_alignment():
    figure = plot.beam_tree(_beams(), source="abc", eos=EOS)
    tree, side = figure.axes[:2]
    texts = _texts(figure)
    for text, count in {"GO": 1, "5": 1, "4": 1, "6": 1, "EOS": 2, "-2.50": 1, "-1.50": 2}.items():
        assert texts.count(text) == count, text
    assert figure.get_suptitle() == "Best: 56 (70%); next: 5 (20%)"
    assert [t.get_text() for t in side.get_xticklabels()] == ["a", "b", "c"]
    assert [t.get_text() for t in side.get_yticklabels()] == ["5", "6", "1"]
    np.testing.assert_array_equal(side.images[0].get_array(), [[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    lines = {tuple(map(tuple, line.get_xydata())): line.get_color() for line in tree.lines}
    assert len(tree.lines) == 6
    best = [(((0, 0.5), (1, 0))), (((1, 0), (2, 0))), (((2, 0), (3, 0)))]
    assert len({lines[each] for each in best}) == 1
    assert lines[((0, 0.5), (1, 1))] not in {lines[best[0]], lines[((1, 0), (2, 1))]}  # died out
    assert lines[((1, 0), (2, 1))] != lines[best[0]]
    assert "step" in tree.get_xlabel() and "rank" in tree.get_ylabel()
    assert len(plot.save.__doc__) and figure.get_size_inches()[0] * figure.dpi >= 1200


def test_a_tree_without_attention_and_its_signs():
    figure = plot.beam_tree(
        _beams(False), sign=lambda i: f"<{i}>", eos=EOS, title="a title of my own"
    )
    assert len(figure.axes) == 1 and figure.get_suptitle() == "a title of my own"
    assert "<6>" in _texts(figure)
    assert plot.beam_tree(_beams(False), sign=lambda i: f"w{i}", eos=EOS).get_suptitle() == (
        "Best: w5 w6 (70%); next: w5 (20%)"
    )


def test_heat_maps_are_cut_to_their_signs():
    weights = np.eye(5)
    figure = plot.alignments(
        [plot.Alignment(weights, "abc", "xy", "one"), (weights, "abcde", ["v", "w", "z"], "two")]
    )
    one, two = figure.axes[:2]
    assert one.images[0].get_array().shape == (2, 3) and two.images[0].get_array().shape == (3, 5)
    assert one.get_title() == "one" and one.get_xlabel() == "read"
    assert "100%" in figure.get_suptitle()
    assert len(plot.alignments([(weights, "ab", "ab")] * 4, columns=2).axes) == 5


def test_refusals():
    weights = np.eye(3)
    for error, word, call in [
        (ArgumentError, "nothing to draw", lambda: plot.alignments([])),
        (ArgumentError, "columns", lambda: plot.alignments([(weights, "a", "b")], columns=0)),
        (ShapeError, "panel 1", lambda: plot.alignments(
            [(weights, "a", "b"), (weights, "abcd", "b")])),
        (ShapeError, "panel 0", lambda: plot.alignments([(weights, "", "b")])),
        (IndexRangeError, "sequence 1", lambda: plot.beam_tree(_beams(False), 1)),
        (IndexRangeError, "sequence -1", lambda: plot.beam_tree(_beams(False), -1)),
        (ArgumentError, "source", lambda: plot.beam_tree(_beams())),
        (ArgumentError, "too many", lambda: plot.beam_tree(
            _beams(False)._replace(lengths=np.array([[30, 2]])))),
    ]:  # fmt: skip
        with pytest.raises(error, match=word):
            call()
