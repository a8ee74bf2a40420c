import numpy as np
import pandas as pd
import pytest

from sklexplain.datasets import (
    load_ecg5000,
    make_frequency_series,
    make_motif_series,
    make_relevant_columns,
)


def test_ecg5000_is_the_archive():
    bunch = load_ecg5000()
    assert bunch.data.shape == (5000, 140)
    assert bunch.data.dtype == np.float32
    np.testing.assert_array_equal(np.unique(bunch.target), [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(np.bincount(bunch.target)[1:], [2919, 1767, 96, 194, 24])
    # Beats are standardised in the archive: a wrong row order or axis would show here.
    np.testing.assert_allclose(bunch.data.mean(axis=1), 0, atol=1e-4)
    np.testing.assert_allclose(bunch.data.std(axis=1, ddof=1), 1, atol=1e-3)
    assert len(bunch.target_names) == 5
    assert len(bunch.feature_names) == 140
    assert "PhysioNet" in bunch.DESCR and "UCR" in bunch.DESCR


def test_ecg5000_splits_are_the_archives():
    X, y = load_ecg5000(return_X_y=True)
    X_train, y_train = load_ecg5000(return_X_y=True, split="train")
    X_test, y_test = load_ecg5000(return_X_y=True, split="test")
    assert len(X_train) == 500 and len(X_test) == 4500
    np.testing.assert_array_equal(X, np.concatenate([X_train, X_test]))
    np.testing.assert_array_equal(y, np.concatenate([y_train, y_test]))


def test_ecg5000_as_frame():
    bunch = load_ecg5000(as_frame=True, split="train")
    assert isinstance(bunch.data, pd.DataFrame) and isinstance(bunch.target, pd.Series)
    assert list(bunch.data.columns) == bunch.feature_names


def test_ecg5000_unknown_split():
    with pytest.raises(ValueError, match="'split' parameter of load_ecg5000"):
        load_ecg5000(split="validation")


def test_relevant_columns_share_factors_and_others_do_not():
    X, y, relevant = make_relevant_columns(5000, 4, 3, n_factors=1, noise=0.1, random_state=0)
    correlation = np.abs(np.corrcoef(X.T))
    assert correlation[np.ix_(relevant, relevant)].min() > 0.95
    assert correlation[np.ix_(~relevant, relevant)].max() < 0.06
    np.testing.assert_allclose(X.std(axis=0), 1, atol=0.05)
    assert relevant.sum() == 4 and len(relevant) == 7
    assert np.abs(np.corrcoef(X[:, relevant].T, y)[-1, :-1]).min() > 0.7


def test_motif_is_where_the_mask_says():
    X, y, motif = make_motif_series(50, 40, 12, 3, n_channels=2, noise=0.0, random_state=0)
    assert X.shape == (50, 2, 40) and motif.shape == (50, 40)
    everywhere = np.broadcast_to(motif[:, None], X.shape)
    np.testing.assert_array_equal(X[~everywhere], 0)
    assert (motif.sum(axis=1) == 12).all() and len(np.unique(motif.argmax(axis=1))) > 5
    shapes = X[everywhere].reshape(50, 2, 12)
    np.testing.assert_array_equal(np.abs(shapes[:, 0]), np.abs(shapes[:, 1]))
    for label in range(3):  # k + 1 periods change their sign 2k + 1 times
        changes = (np.diff(np.sign(shapes[y == label, 0]), axis=1) != 0).sum(axis=1)
        np.testing.assert_array_equal(changes, 2 * label + 1)


def test_frequencies_are_where_the_spectrum_says():
    X, y, cycles = make_frequency_series(50, 40, 3, n_channels=2, noise=0.0, random_state=0)
    assert X.shape == (50, 2, 40) and cycles.shape == (3,) and np.diff(cycles).min() >= 2
    spectrum = np.abs(np.fft.rfft(X))
    np.testing.assert_array_equal(spectrum.argmax(axis=2), np.stack([cycles[y]] * 2, axis=1))
    np.testing.assert_allclose(spectrum.max(axis=2), 20)  # T/2: height 1
    spectrum[spectrum == spectrum.max(axis=2, keepdims=True)] = 0
    assert spectrum.max() < 1e-9
    assert np.abs(X[y == 0].mean(axis=0)).max() < 0.6  # phases are all over the period


@pytest.mark.parametrize("make", [make_relevant_columns, make_motif_series, make_frequency_series])
def test_generators_follow_random_state_only(make):
    state = np.random.get_state()[1].copy()
    first, again, other = make(random_state=0), make(random_state=0), make(random_state=1)
    for left, right in zip(first, again, strict=True):
        np.testing.assert_array_equal(left, right)
    assert not np.array_equal(first[0], other[0])
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_generators_name_impossible_requests():
    with pytest.raises(ValueError, match="n_relevant=1 .* n_factors=2"):
        make_relevant_columns(n_relevant=1)
    with pytest.raises(ValueError, match="motif_length=80 .* n_timesteps=60"):
        make_motif_series(motif_length=80)
    with pytest.raises(ValueError, match="n_classes=4 .* n_timesteps=16"):
        make_frequency_series(n_timesteps=16, n_classes=4)
    with pytest.raises(ValueError, match="n_classes=9 .* motif_length=16"):
        make_motif_series(n_classes=9)
    with pytest.raises(ValueError, match="'n_samples' parameter"):
        make_motif_series(n_samples=0)
