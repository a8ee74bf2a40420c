import numpy as np
import pytest

from sklexplain.metrics import completeness_error

RNG = np.random.default_rng(0)
W = RNG.normal(size=(3, 5))
X = RNG.normal(size=(20, 5))
BASELINE = RNG.normal(size=5)


def encode(X):
    return X @ W.T


@pytest.mark.parametrize("center", [False, True])
def test_linear_closed_form_is_complete(center):
    left = encode(X) - encode(BASELINE[None]) if center else encode(X)
    b = (X - BASELINE) * (left @ W)
    error = completeness_error(b, encode, X, BASELINE, center=center)
    assert error.shape == (20,)
    assert error.max() < 1e-12
    # Attributions that miss a tenth are off by a tenth of the product.
    right = encode(X) - encode(BASELINE[None])
    product = np.abs(np.sum(left * right, axis=1))
    bound = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    expected = 0.1 * product / bound
    np.testing.assert_allclose(
        completeness_error(0.9 * b, encode, X, BASELINE, center=center), expected
    )
    assert np.all(expected <= 0.1 + 1e-12)


def test_several_baselines_are_averaged():
    rows = RNG.normal(size=(4, 5))
    b = np.mean([(X - r) * (encode(X) @ W) for r in rows], axis=0)
    assert completeness_error(b, encode, X, rows).max() < 1e-12


def test_more_samples_than_a_batch_and_more_axes():
    many = np.repeat(X, 60, axis=0).reshape(-1, 5, 1)
    b = many * (many[..., 0] @ W.T @ W)[..., None]
    error = completeness_error(b, lambda X: X[..., 0] @ W.T, many, 0.0)
    assert error.shape == (1200,)
    assert error.max() < 1e-12


def test_a_sample_on_the_baseline_or_at_the_origin_is_no_error():
    same = np.vstack([BASELINE, BASELINE])
    noise = np.array([1e-9, 0, 0, 0, 0])  # what a float32 network may leave
    for center in (False, True):
        assert completeness_error(same * 0 + noise, encode, same, BASELINE, center=center).max() < 1
        assert completeness_error(same * 0, encode, same * 0, 0.0, center=center).max() == 0
        assert np.isinf(completeness_error(same, encode, same * 0, 0.0, center=center)).all()
    assert completeness_error(same * 0 + noise, encode, same, BASELINE).max() < 1e-4


@pytest.mark.parametrize(
    ("args", "error", "match"),
    [
        ((X[:3], encode, X, 0.0), ValueError, "3 attributions for 20 samples"),
        ((X, encode, X, np.zeros(4)), ValueError, "baseline of shape"),
        ((X, None, X, 0.0), TypeError, "not callable"),
        ((X * np.nan, encode, X, 0.0), ValueError, "attributions contains NaN"),
    ],
)
def test_errors(args, error, match):
    with pytest.raises(error, match=match):
        completeness_error(*args)
