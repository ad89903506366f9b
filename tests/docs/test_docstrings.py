"""The examples in docstrings run; and which public names have none is known."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import minigrad

MODULES = sorted(m.name for m in pkgutil.walk_packages(minigrad.__path__, "minigrad."))
PUBLIC = (
    "minigrad", "minigrad.checkpoint", "minigrad.convert", "minigrad.data", "minigrad.nn",
    "minigrad.nn.seq2seq", "minigrad.optim", "minigrad.plot", "minigrad.testing", "minigrad.watch",
)  # fmt: skip
# Results that are only handed out, bases of what has examples, and what needs files or packages
# that are not there.  Ops by themselves, whose names say what they do, are below them.
NONE_NEEDED = set("""
checkpoint.load_safetensors checkpoint.restore checkpoint.save_safetensors data.Corpus data.Dataset
data.Digits data.Iris data.MNIST data.Padded data.Padding data.download_mnist data.load_ptb
nn.seq2seq.Attention nn.seq2seq.Beams nn.seq2seq.Carry nn.seq2seq.Decoded nn.seq2seq.Helper
nn.seq2seq.Memory nn.seq2seq.Tree plot.Alignment plot.beam_tree plot.truncated_series watch.Call
watch.Memory watch.Recorders watch.Trace get_num_threads set_num_threads

absolute add avg_pool2d broadcast_to clip conv2d cos divide elu embedding exp explain_padding expm1
flip gelu layer_norm leaky_relu linear log log1p log_softmax logsumexp matmul max max_pool2d maximum
mean min minimum multiply negative pad power relu reshape sigmoid sin softmax softplus split sqrt
square subtract sum tanh transpose unstack var where
""".split())


def examples(name):
    """The doctests of one module."""
    module = importlib.import_module(name)
    return [test for test in doctest.DocTestFinder().find(module, name) if test.examples]


@pytest.mark.parametrize("name", [name for name in MODULES if examples(name)])
def test_examples_run(name):
    for test in examples(name):
        said = []
        runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
        runner.run(test, out=said.append)
        assert not runner.failures, "".join(said)


def without_example():
    """Public functions and classes that show no example."""
    for name in PUBLIC:
        module = importlib.import_module(name)
        for key in getattr(module, "__all__", ("gradcheck", "gradgradcheck", "check_twin")):
            value = getattr(module, key)
            if callable(value) and ">>>" not in (inspect.getdoc(value) or ""):
                yield f"{name}.{key}".removeprefix("minigrad.")


def test_public_names_have_examples():
    """A new name needs one; run this file with -s to see who has none."""
    none = list(without_example())
    print("without an example:", *none)
    assert set(none) <= NONE_NEEDED
