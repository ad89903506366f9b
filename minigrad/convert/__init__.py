"""Weights from and to PyTorch and Keras.

    lstm = nn.LSTM(8, 32, generator=rng)
    convert.from_torch(torch_lstm, into=lstm)             # a module, or its state_dict()
    torch_lstm.load_state_dict({k: torch.from_numpy(v) for k, v in convert.to_torch(lstm).items()})

    convert.from_keras(keras_layer, into=lstm)            # a layer, a model, or get_weights()
    keras_layer.set_weights(convert.to_keras(lstm))

Neither PyTorch nor Keras is imported: weights come and go as arrays, and ``numpy.asarray`` is all
that is asked of what is given.  Layouts, the order of gates, the number of biases and the forget
bias are taken care of:

    ==================  ==============================  ===============================
    minigrad            PyTorch                         Keras
    ==================  ==============================  ===============================
    Linear              Linear                          Dense
    Embedding           Embedding                       Embedding
    Conv2d              Conv2d                          Conv2D
    BatchNorm           BatchNorm1d, 2d, 3d             BatchNormalization
    LayerNorm           LayerNorm                       LayerNormalization
    RNN, RNNCell        RNN, RNNCell                    SimpleRNN, SimpleRNNCell
    LSTM, LSTMCell      LSTM, LSTMCell                  LSTM, LSTMCell
    LSTM(projection=P)  LSTM(proj_size=P)
    GRU, GRUCell                                        GRU(reset_after=False)
    GRU(reset_after)    GRU, GRUCell                    GRU
    Stacked of layers   num_layers=L                    layers one after the other
    Bidirectional       bidirectional=True              Bidirectional
    ==================  ==============================  ===============================

A model of several layers is converted whole if the other one has the same layers: under the same
names (PyTorch), in the same order (Keras).  What has no counterpart is refused by name: peepholes,
a clipped cell, layer-norm LSTMs; and a GRU whose reset gate comes before the product, in PyTorch,
which multiplies first: r * (h W) is not (r * h) W for any W.

Not among the weights, and so not converted: activations, strides, padding, dropout.  Where images
are flattened, PyTorch has channels first: the rows of the dense layer that follows are in another
order, and have to be put right by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from .. import nn
from ..errors import DTypeError
from . import keras, pytorch

M = TypeVar("M", bound=nn.Module)

__all__ = ["from_keras", "from_torch", "to_keras", "to_torch"]


def from_torch(source: Any, into: M) -> M:
    """Weights of PyTorch, put into a module.  Returns ``into``.

    source: a module of PyTorch, or a state dict: name -> array.
    into: a module with the same layers under the same names.  The two biases of a recurrent layer
    become one, their sum, from which the forget bias of an LSTM is taken away: with
    ``forget_bias=0`` no digit is lost.  A recurrent layer without biases has zeros.

    Raises ArgumentError with every difference in names and kinds, in the eps of normalisations
    and in the activation of an RNN (where ``source`` is a module); ShapeError with every difference
    in shapes; DTypeError for arrays that are not floats.  Nothing is changed then.

    >>> import numpy as np
    >>> from minigrad import convert, nn
    >>> layer = nn.Linear(2, 3, generator=np.random.default_rng(0))
    >>> state = {"weight": np.arange(6.0).reshape(3, 2), "bias": np.ones(3)}
    >>> convert.from_torch(state, into=layer).weight
    Parameter(weight, shape=(2, 3), dtype=float32)
    >>> layer.weight.tolist()
    [[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]]
    """
    _check("from_torch", into)
    settings = pytorch.settings(source) if hasattr(source, "named_modules") else {}
    state = source.state_dict() if hasattr(source, "state_dict") else source
    if not isinstance(state, Mapping):
        raise DTypeError(
            "from_torch: expects a module of PyTorch or a dict of arrays by name, got "
            f"{type(source).__name__}"
        )
    into.load_state_dict(pytorch.incoming(into, state, settings))
    return into


def to_torch(module: nn.Module) -> dict[str, np.ndarray]:
    """The weights of a module under PyTorch's names, in its layouts: new arrays.

    All of a recurrent layer's bias, with the forget bias of an LSTM added, goes into ``bias_ih``;
    ``bias_hh`` is zero, but for the candidate of a GRU.
    Raises ArgumentError naming every layer that PyTorch has no counterpart of.

    >>> import numpy as np
    >>> from minigrad import convert, nn
    >>> lstm = nn.LSTM(3, 5, generator=np.random.default_rng(0))
    >>> [(name, array.shape) for name, array in convert.to_torch(lstm).items()]
    [('weight_ih_l0', (20, 3)), ('weight_hh_l0', (20, 5)), ('bias_ih_l0', (20,)), \
('bias_hh_l0', (20,))]
    """
    _check("to_torch", module)
    return pytorch.outgoing(module)


def from_keras(source: Any, into: M) -> M:
    """Weights of Keras, put into a module.  Returns ``into``.

    source: a layer or model of Keras, or its ``get_weights()``: a list of arrays.
    into: a module with the same layers in the same order.  From the bias of an LSTM the forget
    bias is taken away, as Keras has it among the weights.

    Raises ArgumentError for another number of arrays or another epsilon (where ``source`` is a
    layer or model), and for layers without a counterpart; ShapeError with every difference in
    shapes; DTypeError for arrays that are not floats.  Nothing is changed then.

    >>> import numpy as np
    >>> from minigrad import convert, nn
    >>> layer = nn.Linear(2, 3, generator=np.random.default_rng(0))
    >>> convert.from_keras([np.ones((2, 3)), np.arange(3.0)], into=layer).bias.tolist()
    [0.0, 1.0, 2.0]
    """
    _check("from_keras", into)
    epsilons = keras.epsilons(source)
    weights = source.get_weights() if hasattr(source, "get_weights") else source
    if not isinstance(weights, Sequence) or isinstance(weights, str):
        raise DTypeError(
            "from_keras: expects a layer or model of Keras or a list of arrays, got "
            f"{type(source).__name__}"
        )
    into.load_state_dict(keras.incoming(into, weights, epsilons))
    return into


def to_keras(module: nn.Module) -> list[np.ndarray]:
    """The weights of a module in Keras's order and layouts, for ``set_weights``: new arrays.

    Raises ArgumentError naming every layer that Keras has no counterpart of.

    >>> import numpy as np
    >>> from minigrad import convert, nn
    >>> gru = nn.GRU(3, 5, reset_after=True, generator=np.random.default_rng(0))
    >>> [array.shape for array in convert.to_keras(gru)]
    [(3, 15), (5, 15), (2, 15)]
    """
    _check("to_keras", module)
    return keras.outgoing(module)


def _check(caller: str, module: Any) -> None:
    if not isinstance(module, nn.Module):
        raise DTypeError(f"{caller}: expects a module of minigrad, got {type(module).__name__}")
