"""Differentiable ops: plain functions on arrays that return a value and its vjp.

An op takes ndarrays and numbers and returns ``(y, vjp)``.  ``vjp`` is either

* a tuple with one function for each argument, ``(lambda g: dL/dx, lambda g: dL/dy)``, so
  that a gradient nobody wants is never computed (if the last two are the same function, it
  returns the gradients of both arguments, made in one pass over g); or
* one function that returns all gradients (a tuple, or the only one): for fused kernels,
  whose gradients come out together.

``g`` is dL/dy: an array, or for an op with several results (``y`` a tuple) a tuple of
arrays: zeros for a result that nobody used, or with ``op.takes_gaps = True`` None.
An op never sees a Tensor, never un-broadcasts, never checks a gradient:
``minigrad.tensor.apply`` does that for all of them.

Higher derivatives come from running the op's own function on tensors.  That works for
whatever is written with NumPy functions and operators.  An op that calls a compiled
kernel says what to do instead: ``op.composed = function`` names an op of the same meaning
made of NumPy functions; ``op.first_order_only = "what to use instead"`` refuses.

Axis letters in shapes: N batch, T time, D features in, H hidden, V vocabulary.
"""

from .activations import elu, gelu, leaky_relu, relu, softplus
from .attention import attend
from .conv import conv2d
from .dropout import dropout
from .elementwise import (
    absolute,
    add,
    clip,
    cos,
    divide,
    exp,
    expm1,
    identity,
    log,
    log1p,
    maximum,
    minimum,
    multiply,
    negative,
    power,
    sigmoid,
    sin,
    sqrt,
    square,
    subtract,
    tanh,
    where,
)
from .gru import gru
from .indexing import embedding, getitem, reordered, scatter
from .layer_norm_lstm import layer_norm_lstm
from .linear import einsum, linear, matmul
from .loss import softmax_cross_entropy, squared_error
from .lstm import lstm, lstm_layer
from .lstmp import lstmp
from .normalise import batch_norm, layer_norm
from .pool import avg_pool2d, max_pool2d
from .reduction import log_softmax, logsumexp, max, mean, min, softmax, sum, var
from .reverse import reverse_sequence
from .rnn import rnn
from .shaping import (
    astype,
    broadcast_to,
    concat,
    flip,
    pad,
    reshape,
    split,
    stack,
    transpose,
    unstack,
)

__all__ = [
    "absolute", "add", "astype", "attend", "avg_pool2d", "batch_norm", "broadcast_to", "clip",
    "concat", "conv2d", "cos", "divide", "dropout", "einsum", "elu", "embedding", "exp", "expm1",
    "flip", "gelu", "getitem", "gru", "identity", "layer_norm", "layer_norm_lstm", "leaky_relu",
    "linear", "log", "log1p", "log_softmax", "logsumexp", "lstm", "lstm_layer", "lstmp", "matmul",
    "max", "max_pool2d", "maximum", "mean", "min", "minimum", "multiply", "negative", "pad",
    "power", "relu", "reordered", "reshape", "reverse_sequence", "rnn", "scatter", "sigmoid", "sin",
    "softmax", "softmax_cross_entropy", "softplus", "split", "sqrt", "square", "squared_error",
    "stack", "subtract", "sum", "tanh", "transpose", "unstack", "var", "where",
]  # fmt: skip
