import numpy as np
import pytest

from sklexplain.metrics import latent_shift_curve

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 2, 7))
W = RNG.normal(size=(14, 3))
B = RNG.normal(size=X.shape)


def encode(X):
    return np.tanh(X.reshape(len(X), -1) @ W)


def reference(X, b, value, sizes, pick):
    """Mean shift per mask size, one sample and one feature at a time; pick orders a sample."""
    curve = []
    for m in sizes:
        shifts = []
        for x, scores in zip(X, b, strict=True):
            masked = x.copy()
            for t in pick(scores)[:m]:
                masked[:, t] = value[:, t]
            shifts.append(np.linalg.norm(encode(x[None]) - encode(masked[None])))
        curve.append(np.mean(shifts))
    return curve


@pytest.mark.parametrize("batch_size", [1, 7, 30, 1024])
def test_against_loops_with_channels(batch_size):
    value = RNG.normal(size=(2, 7))
    curve = latent_shift_curve(
        encode, X, B, mask_value=value, channel_axis=0, random_state=3, batch_size=batch_size
    )
    sizes = [0, 1, 2, 4, 6, 7]
    b = np.abs(B).sum(axis=1)
    assert curve.n_masked.tolist() == sizes
    np.testing.assert_allclose(curve.fractions, np.array(sizes) / 7)
    most = reference(X, b, value, sizes, lambda s: sorted(range(7), key=lambda t: -s[t]))
    least = reference(X, b, value, sizes, lambda s: sorted(range(7), key=lambda t: s[t]))
    np.testing.assert_allclose(curve.most, most, atol=1e-12)
    np.testing.assert_allclose(curve.least, least, atol=1e-12)
    rng = np.random.RandomState(3)
    orders = [np.argsort(rng.permutation(7)) for _ in range(10)]
    draws = np.array([reference(X, b, value, sizes, lambda s, o=o: o) for o in orders])
    np.testing.assert_allclose(curve.random, draws.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(curve.random_std, draws.std(axis=0), atol=1e-12)
    area = [
        sum((c[i] + c[i + 1]) / 2 * (sizes[i + 1] - sizes[i]) / 7 for i in range(len(sizes) - 1))
        for c in (most, draws.mean(axis=0), least)
    ]
    assert curve.area_ratio == pytest.approx(area[0] / area[1])
    assert curve.full_shift == pytest.approx(most[-1])
    assert curve.separation == pytest.approx((area[0] - area[2]) / most[-1])


def test_attributions_without_the_channel_axis():
    full = latent_shift_curve(encode, X, B, mask_value=0.0, channel_axis=0, random_state=0)
    summed = np.abs(B).sum(axis=1)
    short = latent_shift_curve(encode, X, summed, mask_value=0.0, channel_axis=-2, random_state=0)
    assert full.area_ratio == short.area_ratio
    assert latent_shift_curve(encode, X, B, mask_value=0.0).n_masked.tolist() == [
        0,
        1,
        2,
        3,
        7,
        12,
        14,
    ]


def test_fractions_need_not_reach_one():
    part = latent_shift_curve(encode, X, B, mask_value=0.0, fractions=0.5, random_state=0)
    whole = latent_shift_curve(encode, X, B, mask_value=0.0, fractions=[0.5, 1], random_state=0)
    assert part.n_masked.tolist() == [0, 7]
    assert part.full_shift == whole.full_shift == whole.most[-1] == whole.least[-1]
    np.testing.assert_array_equal(part.random, whole.random[:2])


def test_order_and_subset_of_samples_change_nothing():
    order = RNG.permutation(len(X))
    a = latent_shift_curve(encode, X, B, mask_value=0.0, random_state=1)
    b = latent_shift_curve(encode, X[order], B[order], mask_value=0.0, random_state=1)
    np.testing.assert_allclose(a.random, b.random)
    np.testing.assert_allclose(a.most, b.most)


def test_a_perfect_explainer_beats_random_and_its_reverse():
    weights = 3.0 ** -np.arange(8)
    flat = RNG.normal(size=(200, 8))
    curve = latent_shift_curve(
        lambda X: X * weights, flat, flat * weights, mask_value=0.0, random_state=0
    )
    assert curve.area_ratio > 1.5
    assert np.all(curve.most[1:-1] > curve.random[1:-1])
    assert np.all(curve.least[1:-1] < curve.random[1:-1])
    assert 0 < curve.separation < 1


def test_the_network_sees_the_dtype_of_X():
    seen = set()

    def spy(X):
        seen.add(X.dtype)
        return X

    x = np.zeros((3, 4), dtype=np.float32)
    x[:, 0] = 1
    latent_shift_curve(spy, x, x, mask_value=0.0)
    assert seen == {np.dtype(np.float32)}
    latent_shift_curve(spy, x.astype(int), x, mask_value=0)
    assert seen == {np.dtype(np.float32), np.dtype(int)}


def test_never_more_than_a_batch():
    sizes = []

    def spy(X):
        sizes.append(len(X))
        return encode(X)

    latent_shift_curve(spy, X, B, mask_value=0.0, batch_size=8)
    assert max(sizes) == 8


def test_ties_follow_the_order_of_features():
    curve = latent_shift_curve(
        lambda X: X * [1, 10, 100],
        np.ones((2, 3)),
        np.ones((2, 3)),
        mask_value=0.0,
        fractions=[0.3],
    )
    assert curve.most[1] == 1
    assert curve.least[1] == 100


def test_no_shift_is_chance_with_a_warning():
    with pytest.warns(UserWarning, match="no mask shifts"):
        curve = latent_shift_curve(lambda X: np.ones((len(X), 2)), X, B, mask_value=0.0)
    assert curve.area_ratio == 1.0
    assert curve.separation == 0.0


@pytest.mark.parametrize(
    ("params", "error", "match"),
    [
        ({"encode": 3}, TypeError, "not callable"),
        ({"encode": lambda X: X[:1]}, ValueError, "one row per sample"),
        ({"encode": lambda X: X * np.nan}, ValueError, "encode returned NaN"),
        ({"X": X * np.nan}, ValueError, "X contains NaN"),
        ({"X": X[0, 0]}, ValueError, "at least 2 axes"),
        ({"attributions": B[:, :, 0]}, ValueError, "attributions have shape"),
        ({"mask_value": np.zeros(3)}, ValueError, "cannot be broadcast"),
        ({"fractions": [0.5, 1.2]}, ValueError, r"\[0, 1\]"),
        ({"channel_axis": 2}, ValueError, "channel_axis=2"),
        ({"channel_axis": "time"}, TypeError, "channel_axis='time'"),
        ({"n_random": 0}, ValueError, "n_random=0"),
        ({"batch_size": 1.5}, TypeError, "batch_size=1.5"),
    ],
)
def test_errors(params, error, match):
    given = {"encode": encode, "X": X, "attributions": B, "mask_value": 0.0} | params
    with pytest.raises(error, match=match):
        latent_shift_curve(**given)


def test_groups_of_entries_are_masked_together():
    positions = np.tile(np.arange(7), (2, 1))  # as channel_axis=0 does
    summed = np.abs(B).sum(axis=1)
    grouped = latent_shift_curve(
        encode, X, summed, mask_value=0.0, groups=positions, random_state=0
    )
    axis = latent_shift_curve(encode, X, B, mask_value=0.0, channel_axis=0, random_state=0)
    np.testing.assert_array_equal(grouped.most, axis.most)
    np.testing.assert_array_equal(grouped.random, axis.random)
    halves = np.repeat([0, 1], 7).reshape(2, 7)
    curve = latent_shift_curve(encode, X, B[:, :, :1].sum(axis=2), mask_value=0.0, groups=halves)
    assert curve.n_masked.tolist() == [0, 1, 2]
    for bad in ({"groups": halves * 1.0}, {"groups": halves + 1}, {"channel_axis": 0}):
        with pytest.raises(ValueError, match="groups"):
            latent_shift_curve(encode, X, B[:, :, 0], mask_value=0.0, **({"groups": halves} | bad))


def test_numpys_global_generator_is_left_alone():
    before = np.random.get_state()[1].copy()
    latent_shift_curve(encode, X, B, mask_value=0.0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
