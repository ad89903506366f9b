"""The kernels of RNN and GRU (their twins are in test_kernels.py): threads, NaN, exact ends."""

import numpy as np
import pytest

from minigrad import kernels

FORMS = ["tanh", "relu", "reset before", "reset after"]
every_form = pytest.mark.parametrize("form", FORMS)


class Run:
    """Arguments and results of one form: a forward pass, then a backward pass with ones."""

    def __init__(self, form, t, n, h, lengths=None, dtype=np.float32):
        rng = np.random.default_rng(0)
        gates = 1 if form in ("tanh", "relu") else 3

        def draw(*shape):
            return rng.standard_normal(shape).astype(dtype)

        self.form = form
        self.x, self.bias, self.w_h = draw(t * n, gates * h), draw(gates * h), draw(h, gates * h)
        self.bias_h = draw(h if form == "reset after" else 0)
        self.which = rng.permutation(t * n).reshape(t, n)
        self.ends = rng.integers(0, t + 1, n) if lengths is None else np.array(lengths)
        self.h = draw(t + 1, n, h)
        self.gates = np.full((t, 4 if form == "reset after" else 3, n, h), 7, dtype)
        self.dh, self.d_x = np.ones((n, h), dtype), np.full((t, n, gates * h), 7, dtype)
        self.d_out = (np.arange(t)[:, None, None] < self.ends[:, None]) * np.ones((t, n, h), dtype)
        self.flow = np.zeros((1, t, n), dtype)

    def forward(self):
        if self.form in ("tanh", "relu"):
            args = self.x, self.which, self.ends, self.bias, self.w_h, self.form == "relu", self.h
            kernels.run_rows(kernels.rnn_forward, len(self.ends), 2, *args)
        else:
            args = self.x, self.which, self.ends, self.bias, self.bias_h, self.w_h
            kernels.run_rows(kernels.gru_forward, len(self.ends), 2, *args, self.h, self.gates)
        return self

    def backward(self):
        results = self.d_out, self.dh, self.d_x, self.flow
        if self.form in ("tanh", "relu"):
            args = self.h, self.ends, self.w_h, self.form == "relu", *results
            kernels.run_rows(kernels.rnn_backward, len(self.ends), 2, *args)
        else:
            args = self.gates, self.h, self.w_h, *results
            kernels.run_rows(kernels.gru_backward, len(self.ends), 2, *args)
        return self


@every_form
def test_bits_do_not_depend_on_threads(form):
    before = kernels.get_num_threads()
    runs = []
    try:
        for count in (1, 2, 3):
            kernels.set_num_threads(count)
            runs.append(Run(form, 6, 23, 32).forward().backward())
    finally:
        kernels.set_num_threads(before)
    for other in runs[1:]:
        for name in ("h", "gates", "dh", "d_x", "flow"):
            np.testing.assert_array_equal(getattr(runs[0], name), getattr(other, name), name)


@every_form
@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("h", [1, 7, 40])
def test_a_nan_stays_in_its_row(form, n, h):
    run = Run(form, 3, n, h, lengths=[3] * n)
    run.x[run.which[1, n // 2], -1] = np.nan  # in the second step; the candidate of a GRU
    run.forward()
    bad = np.isnan(run.h).any(axis=2)  # (T + 1, N)
    assert bad[2:, n // 2].all() and bad.sum() == 2
    run.backward()
    expected = np.arange(n) == n // 2
    if form == "relu":  # whose slope at a NaN is 0, as in ops.relu: the weights get the NaN
        expected[:] = False
    np.testing.assert_array_equal(np.isnan(run.dh).any(axis=1), expected)
    np.testing.assert_array_equal(np.isnan(run.d_x).any(axis=(0, 2)), expected)


@every_form
def test_an_ended_row_is_left_to_the_last_bit(form):
    """Its state is copied, its gradient passes unchanged, and none reaches the inputs."""
    run = Run(form, 4, 6, 33, lengths=[0, 2, 4, 1, 0, 3])
    run.x[run.which[np.arange(4)[:, None] >= run.ends]] = np.nan  # padding may hold anything
    first = run.h[0].copy()
    run.forward().backward()
    for n, end in enumerate(run.ends):
        for later in run.h[end:, n]:
            np.testing.assert_array_equal(later, run.h[end, n])
        assert (run.d_x[end:, n] == 0).all() and (run.d_x[:end, n] != 0).any() == (end > 0)
    np.testing.assert_array_equal(run.h[0], first)
    assert (run.dh[run.ends == 0] == 1).all()
    assert np.isfinite(run.h).all() and np.isfinite(run.dh).all()


@pytest.mark.parametrize("form", ["reset before", "reset after"])
def test_an_open_update_gate_keeps_the_state_to_the_last_bit(form):
    """u = 1 whatever the candidate is; rounding would make the memory of a GRU leak."""
    run = Run(form, 5, 4, 40, lengths=[5] * 4)
    run.bias[40:80] = 1000
    run.forward()
    assert (run.gates[:, 1] == 1).all() and (run.gates[:, 2] != 0).any()
    np.testing.assert_array_equal(run.h, np.broadcast_to(run.h[0], run.h.shape))
