"""P-values, thresholds, what is held back, and the signs of scores."""

import numpy as np
import pytest
from scipy.stats import kstest
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklexplain import AnomalyAttributor
from sklexplain.anomalies._calibration import held_out_rows
from sklexplain.exceptions import SklexplainWarning
from sklexplain.nets import Autoencoder

RNG = np.random.default_rng(0)
X = RNG.normal(size=(100, 2)) @ RNG.normal(size=(2, 4)) + 0.1 * RNG.normal(size=(100, 4))
BENIGN = load_breast_cancer().data[load_breast_cancer().target == 1]


def test_pvalues_are_valid_over_draws_of_the_calibration_samples():
    """Conformal p-values of one calibration set are dependent: each draw has a set of its own."""
    explainer = AnomalyAttributor(PCA(1), random_state=0).fit(X)
    rng, n, found = np.random.default_rng(1), 60, []
    odd = rng.normal(size=(500, 4))
    scores = explainer.score_samples(rng.normal(size=(500 * n, 4))).reshape(500, n)
    for x, calibration in zip(odd, scores, strict=True):
        explainer.calibration_scores_ = np.sort(calibration)
        found.append(explainer.pvalue(x[None])[0])
    found = np.array(found)
    for alpha in (0.05, 0.1, 0.2, 0.5):
        assert (found <= alpha).mean() <= alpha + 2 * np.sqrt(alpha * (1 - alpha) / 500)
    assert kstest(found - rng.random(500) / (n + 1), "uniform").pvalue >= 0.01


def test_a_pvalue_counts_what_is_as_abnormal():
    explainer = AnomalyAttributor(PCA(1).fit(X), random_state=0).fit(X)
    scores = explainer.score_samples(X)
    expected = [(1 + np.sum(scores <= s)) / 101 for s in scores]
    np.testing.assert_allclose(explainer.pvalue(X), expected)
    np.testing.assert_array_equal(explainer.calibration_scores_, np.sort(scores))
    assert explainer.pvalue(X + 50).tolist() == [1 / 101] * 100


def test_of_constant_scores_all_are_one():
    explainer = AnomalyAttributor(
        PCA(2).fit(X), score_function=lambda z: 0 * z[:, 0] + 3, method="kernel_shap"
    ).fit(X)
    assert (explainer.pvalue(X) == 1).all()
    assert (explainer.predict(X) == 1).all()


def test_on_real_data():
    """Share of false alarms, and power at noise of 2 standard deviations in all columns."""
    false, noisy = [], []
    for seed in range(50):
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(BENIGN))
        train, new = BENIGN[order[:240]], BENIGN[order[240:]]
        model = make_pipeline(StandardScaler(), PCA(8))
        # The method plays no part; this one is quickly made.
        explainer = AnomalyAttributor(model, method="feature_ablation", random_state=seed)
        explainer.fit(train)
        false.append(np.mean(explainer.pvalue(new) <= 0.05))
        if seed < 5:
            sd = train.std(axis=0)
            changed = new + 2 * sd * rng.normal(size=new.shape)
            noisy.append(np.mean(explainer.pvalue(changed) <= 0.05))
    assert 0.03 <= np.mean(false) <= 0.07
    assert np.mean(noisy) >= 0.95


def test_threshold_and_signs():
    explainer = AnomalyAttributor(PCA(1).fit(X), contamination=0.2).fit(X)
    scores = explainer.score_samples(X)
    assert explainer.offset_ == np.quantile(scores, 0.2)
    np.testing.assert_array_equal(explainer.decision_function(X), scores - explainer.offset_)
    labels = explainer.predict(X)
    assert (labels == -1).sum() == 20
    assert scores[labels == -1].max() < scores[labels == 1].min()
    np.testing.assert_array_equal(explainer.fit_predict(X), labels)


def test_too_few_calibration_samples_for_a_pvalue():
    with pytest.warns(SklexplainWarning, match="below 1/19 = 0.0526"):
        AnomalyAttributor(PCA(1), random_state=0).fit(X[:60])


# -- what is held back


class Remembers(PCA):
    """A PCA that remembers what it was trained on."""

    def fit(self, X, y=None, sample_weight=None, groups=None):
        self.seen_ = np.array(X), y, sample_weight, groups
        return super().fit(X)

    def fit_transform(self, X, y=None):
        return self.fit(X, y).transform(X)


def test_what_calibrates_was_not_trained_on():
    y, weight, groups = np.arange(100), np.arange(100.0), np.arange(100) // 5
    explainer = AnomalyAttributor(
        Remembers(1), calibration=0.25, method="feature_ablation", random_state=0
    )
    explainer.fit(X, y, sample_weight=weight, groups=groups)
    seen, targets, weights, grouped = explainer.estimator_.seen_
    assert len(seen) == 75
    np.testing.assert_array_equal(seen, X[targets])
    np.testing.assert_array_equal(weights, targets)
    np.testing.assert_array_equal(grouped, targets // 5)
    held = np.setdiff1d(y, targets)
    assert not set(groups[held]) & set(grouped)  # whole groups
    np.testing.assert_allclose(
        explainer.calibration_scores_, np.sort(explainer.score_samples(X[held])), rtol=1e-9
    )
    again = clone(explainer).set_params(random_state=1).fit(X)
    assert len(again.estimator_.seen_[0]) == 75
    assert not np.array_equal(again.estimator_.seen_[0], seen)


@pytest.mark.parametrize(
    "model",
    [PCA(1), make_pipeline(StandardScaler(), PCA(1)), Autoencoder(max_epochs=1, random_state=0)],
    ids=["PCA", "Pipeline", "Autoencoder"],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_groups_are_held_back_whole_whatever_the_model_takes(model):
    groups = np.random.default_rng(0).permutation(np.arange(100) // 5)
    explainer = AnomalyAttributor(model, method="saliency", random_state=0)
    explainer.fit(X, groups=groups)
    train, held = held_out_rows(X, 0.3, groups, explainer.seed_)
    assert len(held) == 30 and not set(groups[train]) & set(groups[held])
    expected = np.sort(explainer.score_samples(X[held]))
    np.testing.assert_allclose(explainer.calibration_scores_, expected, rtol=1e-5, atol=1e-9)


def test_errors_name_the_model_that_has_no_torch_form():
    with pytest.raises(TypeError, match="Remembers has no torch form"):
        AnomalyAttributor(Remembers(1)).fit(X)


def test_references_are_of_the_training_part():
    explainer = AnomalyAttributor(
        Remembers(1), baseline="neighbors", n_neighbors=1, method="occlusion", random_state=0
    ).fit(X)
    seen = {row.tobytes() for row in explainer.estimator_.seen_[0]}
    assert {row.tobytes() for row in explainer.references(X)} <= seen
    mean = clone(explainer).set_params(baseline="mean").fit(X)
    np.testing.assert_allclose(mean.baseline_[0], mean.estimator_.seen_[0].mean(axis=0))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"contamination": 0.6}, r"'contamination' parameter .* range \(0.0, 0.5\]\. Got 0.6"),
        ({"calibration": 1.0}, r"'calibration' parameter .* range \(0.0, 1.0\)\. Got 1.0"),
        ({"baseline": "neighbours"}, "neighbors"),
        ({"score_function": "decisions"}, "decision"),
        ({"n_neighbors": 0}, "n_neighbors"),
        ({"score_function": lambda z: z}, "one number a sample"),
        ({"score_function": "decision", "estimator": StandardScaler()}, "StandardScaler is none"),
        ({"estimator": StandardScaler()}, "neither reconstructs"),
        (
            {"estimator": StandardScaler(), "score_function": "reconstruction"},
            "changes columns one by one",
        ),
    ],
)
def test_errors_name_the_fix(params, words):
    params = {"estimator": PCA(2), **params}
    with pytest.raises((ValueError, TypeError), match=words):
        AnomalyAttributor(**params).fit(X)


def test_a_regressor_is_no_model_of_normal_data():
    with pytest.raises(TypeError, match="neither reconstructs"):
        AnomalyAttributor(LinearRegression().fit(X, X[:, 0])).fit(X)


# -- detectors of other libraries


class LikePyOD(BaseEstimator):
    """Scores the distance from the mean, larger for what is more abnormal, as PyOD does."""

    def __init__(self, sign=1):
        self.sign = sign

    def fit(self, X, y=None):
        self.mean_ = np.mean(X, axis=0)
        self.decision_scores_ = self._distances(X)
        self.threshold_ = np.quantile(self.decision_scores_, 0.9)
        return self

    def _distances(self, X):
        return np.square(X - self.mean_).sum(axis=1)

    def decision_function(self, X):
        return self.sign * self._distances(X)

    def predict(self, X):
        return (self._distances(X) > self.threshold_).astype(int)


def test_pyods_sign_is_the_other_one():
    explainer = AnomalyAttributor(LikePyOD().fit(X), method="kernel_shap", random_state=0).fit(X)
    odd = X[:3] + [0, 5, 0, 0]
    assert (explainer.predict(odd) == -1).all()
    assert (explainer.transform(odd).argmax(axis=1) == 1).all()
    np.testing.assert_allclose(
        explainer.score_samples(odd), -explainer.estimator_.decision_function(odd)
    )
    with pytest.raises(ValueError, match="LikePyOD calls abnormal are less so"):
        AnomalyAttributor(LikePyOD(-1).fit(X), method="kernel_shap").fit(X)


def test_one_column_out_of_line():
    """The largest residual finds it, with valid p-values; the mean of squares dilutes it."""
    data = load_breast_cancer().data
    shares = {"false": [], "largest_residual": [], "reconstruction": []}
    for seed in range(25):
        rng = np.random.default_rng([seed, 1])
        train, calibration, new = np.array_split(data[rng.permutation(len(data))], 3)
        # Fitted: what is usual among residuals is learnt from the calibration samples themselves.
        model = make_pipeline(StandardScaler(), PCA(4)).fit(train)
        params = {"method": "feature_ablation", "random_state": seed}
        explainer = AnomalyAttributor(model, score_function="largest_residual", **params)
        explainer.fit(calibration)
        shares["false"].append(np.mean(explainer.pvalue(new) <= 0.05))
        if seed < 5:
            place = np.arange(30) == rng.integers(30, size=len(new))[:, None]
            changed = new + 3 * place * train.std(axis=0)
            shares["largest_residual"].append(np.mean(explainer.pvalue(changed) <= 0.05))
            explainer = AnomalyAttributor(model, **params).fit(calibration)
            shares["reconstruction"].append(np.mean(explainer.pvalue(changed) <= 0.05))
    shares = {name: np.mean(values) for name, values in shares.items()}
    assert 0.03 <= shares["false"] <= 0.07
    assert shares["largest_residual"] >= 0.5
    assert shares["reconstruction"] < 0.3
