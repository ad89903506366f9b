"""The plain recurrent layer: against TensorFlow, how it starts, its activation."""

import pathlib

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import ArgumentError

GOLDENS = pathlib.Path(__file__).parents[2] / "goldens"


def test_against_tensorflow():
    """BasicRNNCell: one step; dynamic_rnn, lengths 6, 3, 0; its gradients (cells.npz)."""
    golden = np.load(GOLDENS / "cells.npz")

    def g(key):
        return golden[f"basic_rnn/{key}"]

    kernel = g("w/kernel")
    rng = np.random.default_rng(0)
    layer, cell = nn.RNN(4, 5, generator=rng).double(), nn.RNNCell(4, 5, generator=rng).double()
    for model in (layer, cell):
        model.load_state_dict({"w_x": kernel[:4], "w_h": kernel[4:], "bias": g("w/bias")})
    x, h0 = (mg.tensor(a, requires_grad=True) for a in (golden["in/x"], g("state0/0")))
    step, h = cell(x[:, 0], h0)
    np.testing.assert_allclose(step.numpy(), g("step/output"), rtol=1e-12)
    np.testing.assert_allclose(h.numpy(), g("step/state/0"), rtol=1e-12)
    out, h = layer(x, h0)
    np.testing.assert_allclose(out.numpy(), g("dynamic_full/outputs"), rtol=1e-12)
    np.testing.assert_allclose(h.numpy(), g("dynamic_full/final_state/0"), rtol=1e-12)
    out, h = layer(x, h0, golden["in/lengths"])
    np.testing.assert_allclose(out.numpy(), g("dynamic_len/outputs"), rtol=1e-12)
    np.testing.assert_allclose(h.numpy(), g("dynamic_len/final_state/0"), rtol=1e-12)
    loss = (out * g("R_out")).sum() + (h * g("R_state/0")).sum()
    np.testing.assert_allclose(loss.numpy(), g("dynamic_len/loss"), rtol=1e-12)
    loss.backward()
    d_kernel = np.concatenate([layer.w_x.grad.numpy(), layer.w_h.grad.numpy()])
    for ours, key in [
        (d_kernel, "w/kernel"), (layer.bias.grad, "w/bias"), (x.grad, "x"), (h0.grad, "state0/0"),
    ]:  # fmt: skip
        expected = g(f"dynamic_len/grad/{key}")
        np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-13, err_msg=key)


def test_how_it_starts():
    """As TensorFlow: one Glorot kernel for input and state together, bias zero."""
    layer = nn.RNN(30, 50, generator=np.random.default_rng(3))
    cell = nn.RNNCell(30, 50, generator=np.random.default_rng(3))
    limit = np.sqrt(6 / (30 + 50 + 50))
    for weight in (layer.w_x, layer.w_h):
        assert 0.97 * limit < np.abs(weight.numpy()).max() <= limit
        assert abs(weight.numpy().mean()) < 0.05 * limit
    assert (layer.bias.numpy() == 0).all()
    assert [p.shape for p in layer.parameters()] == [(30, 50), (50, 50), (50,)]
    for a, b in zip(layer.parameters(), cell.parameters(), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_activation():
    x = mg.Tensor(np.array([[[2.0, -3.0]]], np.float32))
    expected = {"tanh": np.tanh([2, -3]), "relu": [2, 0]}
    for name, values in expected.items():
        layer = nn.RNN(2, 2, name, generator=np.random.default_rng(0))
        layer.w_x.data = np.eye(2)
        np.testing.assert_allclose(layer(x)[0].numpy()[0, 0], values, rtol=1e-6)
        assert name in repr(layer) and layer.gate_kinds == {"h": name}
    for kind in (nn.RNN, nn.RNNCell):
        with pytest.raises(ArgumentError, match=f"{kind.__name__}: activation .*got 'sigmoid'"):
            kind(2, 2, "sigmoid", generator=np.random.default_rng(0))


def test_relu_has_no_gradient_at_zero():
    """As ops.relu: a unit that is exactly at zero passes nothing."""
    layer = nn.RNN(1, 2, "relu", time_major=True, generator=np.random.default_rng(0))
    x = mg.zeros(3, 1, 1, requires_grad=True)
    out, _ = layer(x)
    out.sum().backward()
    assert (out.numpy() == 0).all() and (x.grad.numpy() == 0).all()
    assert all((p.grad.numpy() == 0).all() for p in layer.parameters())
