"""The GRU: against TensorFlow and PyTorch, how it starts, its gates."""

import pathlib

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn

GOLDENS = pathlib.Path(__file__).parents[2] / "goldens"


def _both(reset_after, weights):
    rng = np.random.default_rng(0)
    models = [kind(4, 5, reset_after, generator=rng).double() for kind in (nn.GRU, nn.GRUCell)]
    for model in models:
        model.load_state_dict(weights)
    return models


def test_against_tensorflow():
    """GRUCell: one step; dynamic_rnn, lengths 6, 3, 0; its gradients (cells.npz)."""
    golden = np.load(GOLDENS / "cells.npz")

    def g(key):
        return golden[f"gru/{key}"]

    def joined(key):  # the gates' variable and the candidate's, side by side
        return np.concatenate([g(f"{key}gates/kernel"), g(f"{key}candidate/kernel")], axis=1), (
            np.concatenate([g(f"{key}gates/bias"), g(f"{key}candidate/bias")])
        )

    kernel, bias = joined("w/")
    layer, cell = _both(False, {"w_x": kernel[:4], "w_h": kernel[4:], "bias": bias})
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
    d_kernel, d_bias = joined("dynamic_len/grad/w/")
    for name, ours, expected in [
        ("w_x", layer.w_x.grad, d_kernel[:4]), ("w_h", layer.w_h.grad, d_kernel[4:]),
        ("bias", layer.bias.grad, d_bias), ("x", x.grad, g("dynamic_len/grad/x")),
        ("h", h0.grad, g("dynamic_len/grad/state0/0")),
    ]:  # fmt: skip
        np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-13, err_msg=name)


def test_reset_after_against_pytorch():
    """torch.nn.GRU over six steps, and its gradients (cells.npz)."""
    golden = np.load(GOLDENS / "cells.npz")

    def g(key):
        return golden[f"torch_gru/{key}"]

    bias, bias_h = g("w/bias_ih_l0").copy(), g("w/bias_hh_l0")
    bias[:10] += bias_h[:10]  # PyTorch has two for r and u as well
    layer, cell = _both(
        True,
        {
            "w_x": g("w/weight_ih_l0").T, "w_h": g("w/weight_hh_l0").T, "bias": bias,
            "bias_h": bias_h[10:],
        },
    )  # fmt: skip
    x = mg.tensor(golden["in/x"], requires_grad=True)
    h0 = mg.tensor(golden["gru/state0/0"], requires_grad=True)
    step, _ = cell(x[:, 0], h0)
    np.testing.assert_allclose(step.numpy(), g("outputs")[:, 0], rtol=1e-12)
    out, h = layer(x, h0)
    np.testing.assert_allclose(out.numpy(), g("outputs"), rtol=1e-12)
    np.testing.assert_allclose(h.numpy(), g("final_state"), rtol=1e-12)
    ((out * golden["gru/R_out"]).sum() + (h * golden["gru/R_state/0"]).sum()).backward()
    for name, ours, expected in [
        ("w_x", layer.w_x.grad, g("grad/w/weight_ih_l0").T),
        ("w_h", layer.w_h.grad, g("grad/w/weight_hh_l0").T),
        ("bias", layer.bias.grad, g("grad/w/bias_ih_l0")),
        ("bias_h", layer.bias_h.grad, g("grad/w/bias_hh_l0")[10:]),
        ("x", x.grad, g("grad/x")), ("h", h0.grad, g("grad/state0")),
    ]:  # fmt: skip
        np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("kind", [nn.GRU, nn.GRUCell])
def test_how_it_starts(kind):
    """As TensorFlow: a Glorot kernel for both gates, one for the candidate; gate bias one."""
    model = kind(30, 50, reset_after=True, generator=np.random.default_rng(3))
    for name, columns in [("r", 100), ("u", 100), ("c", 50)]:
        limit = np.sqrt(6 / (30 + 50 + columns))
        gate = model.gate(name)
        for weight in (gate.w_x, gate.w_h):
            assert 0.97 * limit < np.abs(weight).max() <= limit
        assert (gate.bias == (0 if name == "c" else 1)).all()
    assert (model.bias_h.numpy() == 0).all()
    assert [n for n, _ in model.named_parameters()] == ["w_x", "w_h", "bias", "bias_h"]
    plain = kind(30, 50, generator=np.random.default_rng(3))
    assert [n for n, _ in plain.named_parameters()] == ["w_x", "w_h", "bias"]
    np.testing.assert_array_equal(plain.w_h.numpy(), model.w_h.numpy())
    assert "reset_after" in repr(model) and "reset_after" not in repr(plain)


def test_gate_views_write_through():
    layer = nn.GRU(3, 5, generator=np.random.default_rng(0))
    layer.gate("u").bias[:] = 7
    np.testing.assert_array_equal(layer.bias.numpy(), [1] * 5 + [7] * 5 + [0] * 5)
    assert layer.gate("c").w_x.shape == (3, 5) and layer.gate("r").w_h.shape == (5, 5)
    with pytest.raises(ValueError):
        layer.gate("z")


@pytest.mark.parametrize("reset_after", [False, True])
def test_gates_at_their_ends(reset_after):
    """u = 1 keeps the state; u = 0 takes the candidate; r = 0 makes it forget the state."""
    layer = nn.GRU(3, 5, reset_after, time_major=True, generator=np.random.default_rng(0))
    rng = np.random.default_rng(1)
    x, h0 = (mg.Tensor(rng.standard_normal(s).astype(np.float32)) for s in [(1, 2, 3), (2, 5)])
    layer.gate("u").bias[:] = 200
    np.testing.assert_array_equal(layer(x, h0)[1].numpy(), h0.numpy())
    layer.gate("u").bias[:] = layer.gate("r").bias[:] = -200
    candidate = np.tanh(x.numpy()[0] @ layer.gate("c").w_x)
    np.testing.assert_allclose(layer(x, h0)[1].numpy(), candidate, rtol=1e-5, atol=1e-6)
