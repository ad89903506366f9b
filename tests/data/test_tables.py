"""The two small tables that ship with the package."""

import numpy as np

from minigrad.data import load_digits, load_iris


def test_iris():
    iris = load_iris()
    assert iris.features.shape == (150, 4) and iris.features.dtype == np.float32
    assert iris.labels.dtype == np.int64
    np.testing.assert_array_equal(iris.labels, np.repeat([0, 1, 2], 50))
    assert iris.feature_names == ("sepal_length", "sepal_width", "petal_length", "petal_width")
    assert iris.class_names == ("setosa", "versicolor", "virginica")
    # the published means, and the two samples that differ in UCI's copy
    means = [iris.features[iris.labels == label].mean(axis=0) for label in range(3)]
    np.testing.assert_allclose(
        means,
        [[5.006, 3.428, 1.462, 0.246], [5.936, 2.770, 4.260, 1.326], [6.588, 2.974, 5.552, 2.026]],
        rtol=1e-6,
    )
    np.testing.assert_array_equal(iris.features[34], np.float32([4.9, 3.1, 1.5, 0.2]))
    np.testing.assert_array_equal(iris.features[37], np.float32([4.9, 3.6, 1.4, 0.1]))


def test_digits():
    digits = load_digits()
    assert digits.images.shape == (1797, 8, 8) and digits.images.dtype == np.float32
    assert digits.labels.shape == (1797,) and digits.labels.dtype == np.int64
    assert (digits.images.min(), digits.images.max()) == (0, 16)
    assert digits.images.sum() == 561718
    assert np.bincount(digits.labels).tolist() == [
        178, 182, 177, 183, 181, 182, 181, 179, 174, 180
    ]  # fmt: skip
    # the first image is a zero: ink around an empty middle
    assert digits.labels[0] == 0
    assert digits.images[0, 3].tolist() == [0, 4, 12, 0, 0, 8, 8, 0]


def test_arrays_are_fresh_and_ready_for_use():
    for load in (load_iris, load_digits):
        for array in load()[:2]:
            assert array.flags.c_contiguous and array.flags.writeable
        first = load()
        first[0][:] = -1
        assert (load()[0] >= 0).all()
