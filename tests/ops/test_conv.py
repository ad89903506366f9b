"""Convolution: TensorFlow's numbers, fused against composed, threads, bad calls, padding."""

import pathlib
import re

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, ops
from minigrad.errors import ArgumentError, DTypeError, ShapeError

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "goldens" / "ops_conv.npz")
DTYPES = [np.float32, np.float64]


def _normal(rng, shape, dtype=np.float64):
    return rng.standard_normal(shape).astype(dtype)


def _run(x, w, b=None, g=None, **settings):
    """y and the gradients of sum(y * g)."""
    leaves = [mg.Tensor(a.copy(), requires_grad=True) for a in (x, w, b) if a is not None]
    y = mg.conv2d(*leaves, **settings)
    y.backward(np.ones_like(y.array) if g is None else g)
    return [y.array, *(leaf.grad.array for leaf in leaves)]


@pytest.mark.parametrize("kernels", ["numba", "numpy"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_case_of_tensorflow(dtype, kernels):
    """118 sizes, strides and paddings: value and both gradients; goldens/ops_conv.npz."""
    rtol = 1e-12 if dtype == np.float64 else 2e-6
    assert len(GOLDEN["cases"]) == 118
    with mg.kernels.use(kernels):
        for case in GOLDEN["cases"]:
            number, *_, stride, padding = str(case).split()
            x, w, g = (GOLDEN[f"conv{number}/{name}"].astype(dtype) for name in ("x", "w", "dy"))
            step = tuple(map(int, re.findall(r"\d+", stride)))
            found = _run(x, w, None, g, stride=step, padding=padding)
            for ours, name in zip(found, ("y", "dx", "dw"), strict=True):
                theirs = GOLDEN[f"conv{number}/{name}"]
                assert ours.dtype == dtype and ours.shape == theirs.shape
                atol = rtol * np.abs(theirs).max(initial=1.0)
                np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol, err_msg=str(case))


# N, (H, W), C, O, (KH, KW), settings: every axis of each argument different where it may be
CASES = [
    (2, (5, 6), 2, 3, (3, 3), {}),
    (3, (9, 8), 4, 6, (3, 2), {"stride": (2, 1), "dilation": (1, 2), "groups": 2,
                               "padding": ((1, 2), (0, 3)), "activation": "relu"}),
    (2, (9, 10), 4, 6, (2, 3), {"stride": 3, "groups": 2, "pool": 2, "activation": "relu"}),
    (2, (7, 8), 3, 35, (5, 5), {"padding": "same", "pool": 3}),
    (1, (14, 13), 20, 40, (5, 5), {"padding": "same", "pool": (2, 3), "activation": "relu"}),
    (2, (7, 10), 6, 6, (3, 3), {"stride": (3, 2), "padding": ((4, 1), (0, 3)), "groups": 6}),
    (1, (20, 20), 3, 5, (1, 1), {"stride": 3}),
    (2, (8, 8), 2, 70, (2, 2), {"stride": (3, 4), "pool": (4, 1)}),
    (2, (3, 4), 1, 2, (5, 6), {"padding": "same"}),
    (1, (40, 33), 2, 3, (3, 3), {"dilation": 3, "padding": 3, "activation": "relu"}),
]  # fmt: skip


def _arrays(case, dtype=np.float64, seed=0):
    n, size, channels, outputs, window, settings = case
    rng = np.random.default_rng(seed)
    shape = (*window, channels // settings.get("groups", 1), outputs)
    return [_normal(rng, s, dtype) for s in [(n, *size, channels), shape, (outputs,)]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_fused_is_composed(case, dtype):
    """Values and all gradients of the kernels against those of simple ops."""
    x, w, b = _arrays(case, dtype)
    y, vjp = ops.conv2d(x, w, b, **case[-1])
    expected, back = ops.conv2d.composed(x, w, b, **case[-1])
    g = _normal(np.random.default_rng(1), y.shape, dtype)
    rtol = 1e-12 if dtype == np.float64 else 1e-5
    pairs = [(y, expected), *((f(g), other(g)) for f, other in zip(vjp, back))]
    for ours, theirs in pairs:
        assert ours.dtype == theirs.dtype == dtype and ours.shape == theirs.shape
        atol = 10 * rtol * np.abs(theirs).max(initial=0.0)
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


def _whole_numbers(rng, shape):
    return rng.integers(-2, 3, shape).astype(np.float32)


@pytest.mark.parametrize("pool", [2, 3, (3, 2), (1, 4)])
@pytest.mark.parametrize("size", [(6, 6), (7, 8), (11, 13)])
def test_pooling_at_once_is_pooling_afterwards(size, pool):
    """On whole numbers sums are exact and ties many: the same cell wins, to the last bit."""
    rng = np.random.default_rng(0)
    x, w = _whole_numbers(rng, (3, *size, 2)), _whole_numbers(rng, (3, 3, 2, 37))
    b = _whole_numbers(rng, (37,))
    for activation in (None, "relu"):
        x_1, w_1, x_2, w_2 = (mg.Tensor(a, requires_grad=True) for a in (x, w, x, w))
        settings = {"padding": "same", "activation": activation}
        at_once = mg.conv2d(x_1, w_1, b, pool=pool, **settings)
        afterwards = mg.max_pool2d(mg.conv2d(x_2, w_2, b, **settings), pool, padding="same")
        g = _whole_numbers(rng, at_once.shape)
        at_once.backward(g)
        afterwards.backward(g)
        for ours, theirs in ((at_once, afterwards), (x_1.grad, x_2.grad), (w_1.grad, w_2.grad)):
            np.testing.assert_array_equal(ours.array, theirs.array)


@pytest.mark.parametrize("case", [CASES[1], CASES[2], CASES[4], CASES[9]])
def test_bits_do_not_depend_on_threads(case, monkeypatch):
    monkeypatch.setattr("minigrad.ops.conv._GRAIN", 1)
    x, w, b = _arrays((9, *case[1:]), np.float32)
    before = mg.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3):
            mg.set_num_threads(count)
            found.append(_run(x, w, b, **case[-1]))
    finally:
        mg.set_num_threads(before)
    for other in found[1:]:
        for ours, theirs in zip(other, found[0]):
            np.testing.assert_array_equal(ours, theirs)


def test_an_image_in_a_batch_is_the_image_alone():
    x, w, b = _arrays((5, *CASES[4][1:]), np.float32)
    every = ops.conv2d(x, w, b, **CASES[4][-1])[0]
    for n in range(5):
        alone = ops.conv2d(x[n : n + 1], w, b, **CASES[4][-1])[0]
        np.testing.assert_array_equal(alone[0], every[n])


@pytest.mark.parametrize("dtype", DTYPES)
def test_other_memory_layouts(dtype):
    x, w, b = _arrays(CASES[1], dtype)
    settings = CASES[1][-1]
    expected = _run(x, w, b, **settings)
    turned = [np.asfortranarray(x), np.asfortranarray(w), np.repeat(b, 2)[::2]]
    y, vjp = ops.conv2d(*turned, **settings)
    g = np.asfortranarray(np.ones_like(y))
    for ours, theirs in zip([y, *(f(g) for f in vjp)], expected):
        np.testing.assert_array_equal(ours, theirs)
    for a in (x, w, b):
        a.flags.writeable = False
    np.testing.assert_array_equal(ops.conv2d(x, w, b, **settings)[0], expected[0])


def test_an_empty_batch():
    for settings in ({}, {"pool": 2, "activation": "relu", "padding": "same"}):
        y, dx, dw, db = _run(np.ones((0, 5, 6, 2)), np.ones((3, 3, 2, 4)), np.ones(4), **settings)
        assert y.shape[0] == 0 and y.shape[3] == 4 and dx.shape == (0, 5, 6, 2)
        assert dw.shape == (3, 3, 2, 4) and not dw.any() and not db.any()


@pytest.mark.parametrize("settings", [{}, {"pool": 2}, {"activation": "relu", "pool": 2}])
def test_nan_stays_where_it_is_seen(settings):
    x, w, b = _arrays((2, (8, 8), 3, 5, (3, 3), {}), np.float32)
    x[0, 2, 2, 1] = np.nan
    y = ops.conv2d(x, w, b, padding="same", **settings)[0]
    step = 2 if "pool" in settings else 1
    seen = np.zeros((8, 8), bool)
    seen[1:4, 1:4] = True
    seen = seen.reshape(8 // step, step, 8 // step, step).any(axis=(1, 3))
    for channel in range(5):
        np.testing.assert_array_equal(np.isnan(y[0, :, :, channel]), seen)
    assert np.isfinite(y[1]).all()


def test_relu_gives_no_gradient_at_zero():
    x = np.zeros((1, 3, 3, 1))
    _, dx, dw, db = _run(x, np.ones((1, 1, 1, 1)), np.zeros(1), activation="relu")
    assert not dx.any() and not dw.any() and not db.any()


def test_one_number_and_named_arguments():
    x, w, b = _arrays((2, (7, 7), 3, 4, (3, 3), {}))
    one = mg.conv2d(x, w, b, stride=2, padding=1, dilation=2)
    two = mg.conv2d(x, w, b=mg.Tensor(b), stride=(2, 2), padding=((1, 1), (1, 1)), dilation=[2, 2])
    np.testing.assert_array_equal(one.array, two.array)
    assert mg.conv2d(x, w, padding="SAME").shape == (2, 7, 7, 4)


IMAGE, WEIGHT = np.ones((50, 28, 28, 3)), np.ones((5, 5, 3, 32))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"w": np.ones((5, 5, 1, 32))}, ShapeError,
         r"weight expects 1 input channel \(axis 2 of \(5, 5, 1, 32\)\) but x has 3 \(axis 3 of "
         r"\(50, 28, 28, 3\)\)"),
        ({"w": np.ones((5, 5, 1, 33))}, ShapeError, "; groups=3 would fit"),
        ({"groups": 3}, ShapeError, "expects 3 input channels in each of 3 groups"),
        ({"w": np.ones((5, 5, 1, 32)), "groups": 3}, ShapeError,
         r"the 32 output channels of weight \(axis 3 of .*\) do not fall into 3 groups"),
        ({"groups": 0}, ArgumentError, "groups must be a positive integer, got 0"),
        (
            {"x": np.ones((28, 28, 3))}, ShapeError,
            r"x must be \(N, H, W, C\).*batch axis: x\[None\]",
        ),
        ({"x": np.ones((2, 28))}, ShapeError, r"x must be \(N, H, W, C\), got shape \(2, 28\)"),
        ({"x": np.ones((50, 28, 28, 3), int)}, DTypeError, "float32 or float64, got int64"),
        ({"x": np.ones((50, 28, 28, 3), np.float32)}, DTypeError, "x float32, weight float64"),
        ({"b": np.ones(32, np.float32)}, DTypeError, "bias float32"),
        ({"w": np.ones((5, 3, 32))}, ShapeError, r"weight must be \(KH, KW, C / groups, O\)"),
        ({"b": np.ones(31)}, ShapeError, r"bias must be \(32,\).*got shape \(31,\)"),
        ({"stride": 0}, ArgumentError, "stride must be a positive integer, or two"),
        ({"stride": (1, 2, 3)}, ArgumentError, "stride must be"),
        ({"dilation": 1.5}, ArgumentError, "dilation must be"),
        ({"padding": "full"}, ArgumentError, "padding must be 'same', 'valid'.*got 'full'"),
        ({"padding": -1}, ArgumentError, "padding must be"),
        ({"padding": (1, (2, 3, 4))}, ArgumentError, "padding must be"),
        ({"activation": "tanh"}, ArgumentError, "activation must be 'relu' or None, got 'tanh'"),
        ({"pool": 0}, ArgumentError, "pool must be a positive integer"),
        ({"pool": 17}, ArgumentError, "at most 256 cells"),
        ({"dilation": 8}, ShapeError,
         r"a window that reaches over 33 pixels does not fit into the 28 pixels and 0 of padding "
         r"of "
         r"x's height \(axis 1\)"),
    ],
)  # fmt: skip
def test_bad_calls(change, error, message):
    arguments = {"x": IMAGE, "w": WEIGHT, "b": None} | change
    with pytest.raises(error, match=f"^conv2d: .*{message}"):
        mg.conv2d(**arguments)


def test_explain_padding(capsys):
    mg.explain_padding((7, 8), 3, stride=2)
    text = capsys.readouterr().out
    assert "height: 7 rows, a window of 3, stride 2\n  outputs = ceil(7 / 2) = 4\n" in text
    assert "padding = max((4 - 1) * 2 + 3 - 7, 0) = 2: 1 before, 1 after" in text
    assert "output 0 sees rows . 0 1\n" in text and "output 3 sees rows 5 6 .\n" in text
    assert "= 1: 0 before, 1 after" in text and "output 0 sees columns 0 1 2\n" in text
    mg.explain_padding(28, 5, padding="valid", stride=3)
    text = capsys.readouterr().out
    assert "outputs = floor((28 - 5) / 3) + 1 = 8" in text and "width: the same" in text
    assert "the last 2 rows are seen by no output" in text
    assert "..." in text and "output 7 sees rows 21 22 23 24 25" in text
    mg.explain_padding(9, 3, padding=2, dilation=4)
    assert "a window of 3, 4 apart: 9" in capsys.readouterr().out
    with pytest.raises(ArgumentError, match="^explain_padding: window"):
        mg.explain_padding(9, 0)


@pytest.mark.parametrize("padding", ["same", "valid", ((2, 1), (0, 3))])
def test_explained_is_what_is_done(padding, capsys):
    """A one in each pixel in turn reaches the outputs that say they see it."""
    x = np.eye(7).reshape(7, 7, 1, 1)
    y = mg.conv2d(x, np.ones((3, 1, 1, 1)), stride=(2, 1), dilation=(2, 1),
                  padding=padding if isinstance(padding, str) else (padding[0], (0, 0))
                  )  # fmt: skip
    mg.explain_padding((7, 20), 3, stride=2, padding=padding, dilation=2)
    height = capsys.readouterr().out.split("width")[0]
    for out, seen in re.findall(r"output (\d+) sees rows (.*)", height):
        assert np.flatnonzero(y.array[:, int(out), 0, 0]).tolist() == [
            int(row) for row in seen.split() if row != "."
        ]


def test_the_layer():
    rng = np.random.default_rng(0)
    layer = nn.Conv2d(4, 6, (3, 5), stride=2, padding="same", groups=2, activation="relu", pool=2,
                      generator=rng)  # fmt: skip
    assert layer.weight.shape == (3, 5, 2, 6) and not layer.bias.array.any()
    limit = np.sqrt(6 / (15 * 2 + 15 * 6))
    assert 0.9 * limit < np.abs(layer.weight.array).max() <= limit
    x = _normal(rng, (2, 9, 8, 4), np.float32)
    expected = ops.conv2d(x, layer.weight.array, layer.bias.array, stride=2, padding="same",
                          groups=2, activation="relu", pool=2)[0]  # fmt: skip
    np.testing.assert_array_equal(layer(x).array, expected)
    assert nn.Conv2d(1, 2, 3, bias=False, generator=rng)(x[..., :1]).shape == (2, 7, 6, 2)
    assert repr(layer) == (
        "Conv2d(4 -> 6, 3x5, stride=(2, 2), padding='same', groups=2, activation='relu', pool=2)"
    )
    assert nn.Sequential(layer, nn.Flatten())(x).shape == (2, 3 * 2 * 6)
    with pytest.raises(DTypeError, match="Conv2d: x is float64 but the weights are float32"):
        layer(x.astype(np.float64))
    for change in ({"groups": 3}, {"in_channels": 0}, {"kernel_size": -1}, {"generator": None}):
        with pytest.raises(ArgumentError):
            nn.Conv2d(**({"in_channels": 4, "out_channels": 6, "kernel_size": 3,
                          "generator": rng} | change))  # fmt: skip
