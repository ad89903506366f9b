"""Tensor: data in and out, dtype rules, operators, copies, bad inputs."""

import copy
import pickle

import numpy as np
import pytest

import minigrad as mg
from minigrad import ops
from minigrad.errors import ArgumentError, DTypeError, GraphError, InplaceError, ShapeError

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


def t32(*shape):
    return mg.Tensor(np.linspace(0.5, 2.0, int(np.prod(shape)), dtype=F32).reshape(shape), True)


def t64(*shape):
    return mg.Tensor(t32(*shape).array.astype(F64), True)


# -- dtypes ---------------------------------------------------------------------------------

NUMBERS = [
    2, 2.5, True, np.float64(2.5), np.float32(2.5), np.int64(2), np.int8(2), np.uint8(2), np.True_,
]  # fmt: skip
BINARY = [
    lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: a / b,
    lambda a, b: a**b, mg.maximum, mg.minimum, lambda a, b: mg.where(True, a, b),
]  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS, ids=repr)
@pytest.mark.parametrize("op", range(len(BINARY)))
@pytest.mark.parametrize("make", [t32, t64])
@pytest.mark.parametrize("shape", [(), (3,)])
def test_a_number_never_changes_a_dtype(make, shape, op, number):
    for turned in (False, True):
        x = make(*shape)
        y = BINARY[op](number, x) if turned else BINARY[op](x, number)
        assert isinstance(y, mg.Tensor) and y.dtype == x.dtype
        y.sum().backward()
        assert x.grad.dtype == x.dtype and x.grad.shape == shape


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.int8, np.uint8, np.bool_])
@pytest.mark.parametrize("op", range(len(BINARY)))
def test_integer_tensors_never_promote_float32(op, kind):
    other = np.array([1, 1, 0]).astype(kind)
    if op == 3 or (op == 4 and kind is np.bool_):
        other = np.ones(3, np.int64)
    for given in (other, mg.Tensor(other), other.tolist()):
        x = t32(3)
        y = BINARY[op](x, given)
        assert y.dtype == F32
        y.sum().backward()
        assert x.grad.dtype == F32


def test_two_float_dtypes_meet_in_the_wider_and_each_gets_its_own_gradient():
    a, b = t32(3), t64(3)
    y = a * b + np.ones(3)
    y.sum().backward()
    assert (y.dtype, a.grad.dtype, b.grad.dtype) == (F64, F32, F64)
    assert (t32(3) * np.ones(3)).dtype == F64  # an array, not a number


def test_integers_stay_integers():
    x = mg.tensor([1, 2, 3])
    assert x.dtype == np.int64
    assert (x + 1).dtype == (x * x).dtype == x.sum().dtype == np.int64
    assert (x + 1.5).dtype == (x / 2).dtype == x.mean().dtype == mg.exp(x).dtype == F32
    assert (x > 1).dtype == np.bool_ and ((x > 1) & (x < 3)).tolist() == [False, True, False]
    assert (~(x > 1)).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        ([1.0, 2.0], F32), (1.5, F32), ([[1, 2.5]], F32), ([1, 2], np.int64), (True, np.bool_),
        (np.ones(2), F64), (np.float64(1), F64), (np.float32(1), F32), ([], F32), ((1, 2.0), F32),
        (np.ones(2, np.int8), np.int8), (np.ones(2, np.float16), np.float16),
        (np.zeros((0, 3), F32), F32),
    ],
)  # fmt: skip
def test_dtype_of_new_tensors(data, dtype):
    assert mg.Tensor(data).dtype == mg.tensor(data).dtype == dtype
    np.testing.assert_array_equal(mg.tensor(data).array, np.asarray(data))


def test_dtype_by_request():
    assert mg.tensor([1, 2], dtype=np.float64).dtype == F64
    assert mg.Tensor(np.ones(2), dtype="float32", requires_grad=True).dtype == F32
    assert t64(2).float().dtype == F32 and t32(2).double().dtype == F64
    assert t32(2).astype(np.int64).dtype == np.int64


# -- memory ---------------------------------------------------------------------------------


def test_who_shares_memory():
    array = np.ones(3)
    assert mg.Tensor(array).array is array and mg.from_numpy(array).array is array
    assert not np.may_share_memory(mg.tensor(array).array, array)
    x = mg.Tensor(array)
    assert mg.Tensor(x).array is array and not np.may_share_memory(mg.tensor(x).array, array)
    assert x.detach().array is array and x.detach().storage is x.storage
    assert not np.may_share_memory(x.clone().array, array)
    assert np.may_share_memory(x[1:].array, array) and x[1:].storage is x.storage
    assert x[[0, 1]].storage is not x.storage


def test_clone_carries_gradients_and_detach_does_not():
    x = t32(3)
    (x.clone() * 2).sum().backward()
    assert x.grad.tolist() == [2, 2, 2]
    assert not x.detach().requires_grad and x.detach().is_leaf


def test_numpy_of_a_graph_is_read_only():
    x = t32(3)
    for t in (x, x * 2):
        assert not t.numpy().flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            t.numpy()[0] = 1.0
    assert x.detach().numpy().flags.writeable and np.may_share_memory(x.numpy(), x.array)


# -- looking at it --------------------------------------------------------------------------


def test_sizes():
    x = t32(2, 3, 4)
    assert (x.shape, x.ndim, x.dim(), x.size, x.numel(), len(x)) == ((2, 3, 4), 3, 3, 24, 24, 2)
    with pytest.raises(DTypeError, match="0-d"):
        len(mg.tensor(1.0))
    assert isinstance(len(x), int) and isinstance(x.size, int)


def test_conversions():
    assert float(mg.tensor(2.5)) == 2.5 and int(mg.tensor([[3]])) == 3
    loss = mg.tensor([2.5], requires_grad=True)
    assert f"{loss:.3f} {loss:>6}" == "2.500    2.5" and f"{loss}" == str(loss)
    assert [10, 20, 30][mg.tensor(1)] == 20 and list(range(mg.tensor(3))) == [0, 1, 2]
    assert mg.tensor([[1, 2]]).tolist() == [[1, 2]]
    item = mg.tensor([2.5]).item()
    assert item == 2.5 and type(item) is float and type(mg.tensor(2).item()) is int
    assert np.asarray(t32(2)).dtype == F32 and np.array(t32(2), dtype=F64).dtype == F64
    with pytest.raises(ShapeError, match=r"item\(\): a tensor of shape \(2,\)"):
        t32(2).item()
    with pytest.raises(TypeError):
        [1, 2][mg.tensor(1.0)]


def test_truth():
    assert mg.tensor([[1]]) and not mg.tensor(0.0)
    with pytest.raises(ArgumentError, match=r"\(2,\) is neither true nor false; use \.any\(\)"):
        bool(t32(2))
    assert (t32(2) > 0).all() and (t32(2) > 1).any() and not (t32(2) > 1).all()
    assert (t32(2, 3) > 1).any(axis=0).shape == (3,)
    if mg.tensor([]).size:
        pytest.fail("empty")


def test_comparisons_and_hash():
    x, y = mg.tensor([1.0, 2.0]), mg.tensor([1.0, 3.0])
    assert (x == y).tolist() == [True, False] and (x != y).tolist() == [False, True]
    assert (x < 2).tolist() == [True, False] and (2 <= x).tolist() == [False, True]
    assert len({x, y, x}) == 2 and {x: 1}[x] == 1
    assert (mg.tensor([1, 2]) ^ 1).tolist() == [0, 3] and (mg.tensor([1, 2]) | 1).tolist() == [1, 3]
    with pytest.raises(ShapeError, match=r"^less: .*\(2,\), \(3,\)"):
        assert x < np.ones(3)


def test_iteration_gives_rows_that_carry_gradients():
    x = t32(3, 2)
    total = sum((row * i for i, row in enumerate(x)), mg.zeros(2))
    total.sum().backward()
    assert x.grad.tolist() == [[0, 0], [1, 1], [2, 2]]
    a, b = mg.tensor([1.0, 2.0])
    assert (a.item(), b.shape) == (1, ())
    with pytest.raises(ShapeError, match="0-d tensor"):
        iter(mg.tensor(1.0))


def test_argmax():
    x = mg.tensor([[1.0, 5.0, 5.0], [7.0, 0.0, 0.0]])
    assert x.argmax().item() == 3 and x.argmax(1).tolist() == [1, 0]
    with pytest.raises(ShapeError, match="^argmax: axis 2 is out of bounds"):
        x.argmax(2)


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (mg.tensor([1.0, 2.5]), "tensor([1. , 2.5])"),
        (mg.tensor(3), "tensor(3)"),
        (mg.tensor([True]), "tensor([ True])"),
        (mg.Tensor(np.ones(1)), "tensor([1.], dtype=float64)"),
        (mg.tensor([1.0], True), "tensor([1.], requires_grad=True)"),
        (mg.tensor([1.0], True) * 2, "tensor([2.], by=multiply)"),
        (mg.zeros(0, 3), "tensor([], shape=(0, 3))"),
    ],
)
def test_repr(tensor, text):
    assert repr(tensor) == text


def test_repr_of_a_large_tensor_is_short():
    assert len(repr(mg.zeros(1000, 1000))) < 500


# -- copies ---------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_copies_are_independent_leaves(make):
    for x in (t32(2), mg.tensor([1, 2]), t64(2, 2)):
        y = make(x)
        assert (y.dtype, y.requires_grad, y.tolist()) == (x.dtype, x.requires_grad, x.tolist())
        assert not np.may_share_memory(x.array, y.array) and y.storage is not x.storage
        assert y.array.flags.writeable and y.grad is None and y.is_leaf
    with pytest.raises(GraphError, match="only leaf tensors can be .*detach"):
        make(t32(2) * 2)


def test_deepcopy_keeps_shared_tensors_shared():
    x = t32(2)
    first, second, other = copy.deepcopy([x, x, t32(2)])
    assert first is second and first is not other


# -- bad inputs -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([[1.0, 2.0], [3.0]], "cannot make an array of this data.*inhomogeneous"),
        ("abc", "got dtype <U3"),
        (["a", "b"], "got dtype <U1"),
        (b"abc", "got dtype"),
        (1j, "got dtype complex128"),
        (np.ones(2, np.complex64), "got dtype complex64"),
        (None, "got dtype object"),
        ([1, None], "got dtype object"),
        ({"a": 1}, "got dtype object"),
        (np.array([[1], [1, 2]], dtype=object), r"got dtype object \(a ragged list\?\)"),
        (np.array("2020-01-01", dtype="M8"), "got dtype datetime64"),
    ],
)
def test_what_is_no_tensor(data, message):
    for make in (mg.Tensor, mg.tensor):
        with pytest.raises(DTypeError, match=f"tensor: .*{message}"):
            make(data)
    assert issubclass(DTypeError, TypeError)


def test_bad_dtype_requests():
    for dtype in (complex, object, "U3"):
        with pytest.raises(DTypeError, match="got dtype"):
            mg.Tensor([1.0], dtype=dtype)
    with pytest.raises(DTypeError, match="expected an ndarray, got list"):
        mg.from_numpy([1.0])


def test_only_float_leaves_require_gradients():
    for data in ([1, 2], [True]):
        with pytest.raises(DTypeError, match="only float tensors can require a gradient"):
            mg.Tensor(data, requires_grad=True)
    x = mg.tensor([1.0])
    assert x.requires_grad_() is x and x.requires_grad
    y = x * 2
    for wanted in (True, False):
        with pytest.raises(GraphError, match="only be set on a leaf.*detach"):
            y.requires_grad_(wanted)
    assert not x.requires_grad_(False).requires_grad


# -- the door -------------------------------------------------------------------------------


def test_tensors_given_by_name_carry_gradients_too():
    x, y = t32(3), t32(3)
    for result in (mg.multiply(x=x, y=y), mg.multiply(x, y=y), mg.apply(ops.multiply, y=x, x=y)):
        x.grad = y.grad = None
        result.sum().backward()
        np.testing.assert_array_equal(x.grad.array, y.array)
        np.testing.assert_array_equal(y.grad.array, x.array)
    high = mg.tensor(1.0, True)
    mg.clip(t32(3), high=high).sum().backward()
    assert high.grad.item() == 2
    with pytest.raises(DTypeError, match="^multiply: got an unexpected keyword argument 'z'"):
        mg.multiply(x, y, z=y)


def test_op_of_a_user():
    def reverse(x, scale):  # a gradient reversal, which returns its very argument
        return x, lambda g: (-scale * g, None)

    x = t32(3)
    y = mg.apply(reverse, x, 0.5)
    y.sum().backward()
    assert x.grad.tolist() == [-0.5] * 3 and y.storage is x.storage
    loss = (mg.apply(reverse, x, 0.5) ** 2).sum()
    with mg.no_grad():
        x += 1.0
    with pytest.raises(InplaceError):
        loss.backward()


def test_errors_name_op_shapes_and_keep_their_builtin_base():
    with pytest.raises(ShapeError, match=r"^add: .*\(arguments: \(2, 3\), \(4,\)\)") as caught:
        t32(2, 3) + t32(4)
    assert isinstance(caught.value, ValueError)
    with pytest.raises(DTypeError, match="^exp: exp.. (got|takes)") as caught:
        mg.exp(t32(2), base=2)
    assert isinstance(caught.value, TypeError)
    with pytest.raises(mg.errors.MinigradError):
        mg.concat([t32(2), t32(2, 2)])


def test_a_shape_is_several_numbers_or_a_tuple():
    rng = np.random.default_rng(0)
    for shape in ((2, 3), [2, 3], (np.int64(2), 3)):
        assert mg.zeros(shape).shape == mg.ones(shape).shape == (2, 3)
        assert mg.randn(shape, generator=rng).shape == (2, 3)
    assert mg.zeros(()).shape == mg.zeros().shape == ()
