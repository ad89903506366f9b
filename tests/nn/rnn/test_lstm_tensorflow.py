"""LSTMs with peepholes, projection, clipped cell or layer normalisation against TensorFlow."""

import pathlib

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn

GOLDENS = pathlib.Path(__file__).parents[2] / "goldens"
NORMS = ("input", "transform", "forget", "output", "state")
GOLDEN_NAMES = {
    "lstm_peephole": {"peepholes": True},
    "lstm_proj3": {"projection": 3},
    "lstm_clip0.3": {"cell_clip": 0.3},
    "layernorm_lstm": {},
}


def from_tensorflow(get, name):
    """Weights, or gradients, in our arrangement."""
    kernel = get("kernel")
    weights = {"w_x": kernel[:4], "w_h": kernel[4:]}
    if name == "layernorm_lstm":
        parts = {p: np.stack([get(f"{norm}_{p}") for norm in NORMS]) for p in ("gamma", "beta")}
        return weights | parts
    if name == "lstm_peephole":
        weights["w_c"] = np.stack([get(f"w_{gate}_diag") for gate in "ifo"])
    if name == "lstm_proj3":
        weights["w_p"] = get("projection/kernel")
    return weights | {"bias": get("bias")}


@pytest.mark.parametrize("mode", ["numba", "numpy"])
@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_against_tensorflow(name, mode):
    """One step, dynamic_rnn with and without lengths, and every gradient."""
    golden = np.load(GOLDENS / "lstm_variants.npz")
    get = {key: golden[key] for key in golden.files}
    normed = name == "layernorm_lstm"
    kinds = (nn.LayerNormLSTM, nn.LayerNormLSTMCell) if normed else (nn.LSTM, nn.LSTMCell)
    layer, cell = (
        kind(4, 5, generator=np.random.default_rng(0), **GOLDEN_NAMES[name]).double()
        for kind in kinds
    )
    for model in (layer, cell):
        model.load_state_dict(from_tensorflow(lambda key: get[f"{name}/w/{key}"], name))
    x = mg.Tensor(get["in/x"], requires_grad=True)  # (3, 6, 4)
    c0, h0 = (mg.Tensor(get[f"{name}/state0/{i}"], requires_grad=True) for i in (0, 1))

    def check(ours, key):
        theirs = get[f"{name}/{key}"]
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-9, atol=1e-12, err_msg=key)

    with mg.kernels.use(mode):
        output, (h, c) = cell(x[:, 0], (h0, c0))
        check(output, "step/output")
        check(c, "step/state/0")
        check(h, "step/state/1")
        out, (h, c) = layer(x, (h0, c0))
        check(out, "dynamic_full/outputs")
        check(c, "dynamic_full/final_state/0")
        check(h, "dynamic_full/final_state/1")
        out, (h, c) = layer(x, (h0, c0), get["in/lengths"])
        check(out, "dynamic_len/outputs")
        check(c, "dynamic_len/final_state/0")
        check(h, "dynamic_len/final_state/1")
        loss = (out * get[f"{name}/R_out"]).sum()
        loss = loss + (c * get[f"{name}/R_state/0"]).sum() + (h * get[f"{name}/R_state/1"]).sum()
        check(loss, "dynamic_len/loss")
        loss.backward()
    check(x.grad, "dynamic_len/grad/x")
    check(c0.grad, "dynamic_len/grad/state0/0")
    check(h0.grad, "dynamic_len/grad/state0/1")
    expected = from_tensorflow(lambda key: get[f"{name}/dynamic_len/grad/w/{key}"], name)
    ours = dict(layer.named_parameters())
    assert set(ours) == set(expected)
    for key, theirs in expected.items():
        np.testing.assert_allclose(
            ours[key].grad.numpy(), theirs, rtol=1e-9, atol=1e-12, err_msg=key
        )
