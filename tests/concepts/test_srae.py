"""SRAEExplainer: what it approximates, how it is trained, and how it is judged."""

import pickle
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import KernelPCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, ShuffleSplit, train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import EpochScoring
from torch import nn

from sklexplain import SRAEExplainer
from sklexplain.concepts._losses import PENALTIES
from sklexplain.concepts._network import ConceptModule
from sklexplain.exceptions import SklexplainWarning, UndefinedMetricWarning
from sklexplain.metrics import concept_orthogonality, faithfulness
from sklexplain.nets import Autoencoder
from tests.cases import encode, make_net, make_X

QUICK = {
    "n_concepts": 2,
    "hidden_layer_sizes": (6,),
    "max_epochs": 3,
    "validation_split": None,
    "random_state": 0,
}


def explain(name="mlp", n_samples=20, **params):
    X = make_X(name, n_samples)
    return SRAEExplainer(make_net(name), **{**QUICK, **params}).fit(X), X


# -- what is approximated ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (None, lambda z: z),
        (1, lambda z: z[:, 1]),
        (-1, lambda z: z[:, 3]),
        ([2, 0], lambda z: z[:, [2, 0]]),
        ([3], lambda z: z[:, [3]]),
        ("norm", lambda z: np.linalg.norm(z, axis=1)),
    ],
)
def test_targets(target, expected):
    explainer, X = explain(target=target)
    z = encode(explainer.estimator, X)
    np.testing.assert_allclose(explainer.target_values(X), expected(z), rtol=1e-5, atol=1e-6)
    assert explainer.predict(X).shape == expected(z).shape
    assert explainer.concept_weights_.shape == (*expected(z).shape[1:], 2)


def test_a_single_output_is_a_single_target():
    X, y = load_iris(return_X_y=True)
    regressor = MLPRegressor(
        hidden_layer_sizes=(5,), solver="lbfgs", max_iter=300, random_state=0
    ).fit(X, y)
    explainer = SRAEExplainer(regressor, **QUICK).fit(X)
    np.testing.assert_allclose(explainer.target_values(X), regressor.predict(X), rtol=1e-4)
    assert explainer.predict(X).shape == (150,)


def test_scores_of_classifiers_before_the_softmax():
    X, y = load_iris(return_X_y=True)
    classifier = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    explainer = SRAEExplainer(classifier, target=2, **QUICK).fit(X)
    scores = classifier.decision_function(X)[:, 2]
    np.testing.assert_allclose(explainer.target_values(X), scores, rtol=1e-5, atol=1e-5)


def test_embedding_of_an_unsupervised_net():
    X = make_X("conv1d", 20)
    net = Autoencoder("conv1d", n_components=3, hidden_layer_sizes=(4,), max_epochs=1, patience=1)
    net.set_params(validation_split=None, random_state=0).fit(X)
    explainer = SRAEExplainer(net, target="norm", **QUICK).fit(X)
    norm = np.linalg.norm(net.transform(X), axis=1)
    np.testing.assert_allclose(explainer.target_values(X), norm, rtol=1e-5)


@pytest.mark.parametrize(
    ("target", "error", "match"),
    [
        (4, ValueError, r"target=4: there is no output 4; the network has 4, numbered 0 to 3"),
        ([0, -5], ValueError, "no output -5"),
        ("nrom", ValueError, "Did you mean 'norm'"),
        ([], ValueError, "is empty"),
        ([1, -3], ValueError, "twice"),
        (1.0, TypeError, "number of an output"),
        (True, TypeError, "number of an output"),
    ],
)
def test_wrong_targets(target, error, match):
    with pytest.raises(error, match=match):
        explain(target=target)


# -- where it is looked at ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "layer", "shape"),
    [("conv2d", None, (36,)), ("conv2d", "0", (4, 6, 6)), ("lstm", "rnn[0]", (7, 5))],
)
def test_layers(name, layer, shape):
    explainer, X = explain(name, layer=layer)
    assert explainer.layer_shape_ == explainer.relevance_.shape == shape
    concepts = explainer.transform(X)
    assert concepts.dtype == np.float32
    assert explainer.inverse_transform(concepts).shape == (len(X), *shape)


def test_wrong_layers():
    with pytest.raises(ValueError, match="Did you mean 'head'"):
        explain("lstm", layer="haed")
    with pytest.raises(TypeError, match="has no torch form"):
        from sklearn.neighbors import KNeighborsRegressor

        X = make_X("mlp", 20)
        SRAEExplainer(KNeighborsRegressor().fit(X, X[:, 0]), **QUICK).fit(X)


# -- training ----------------------------------------------------------------------------------


def trained_by_hand(X, Z, y, explainer, n_epochs, beta, q, pull_away, warm_up):
    """Weights after full-batch gradient descent on equation 1, written out, in float64."""
    Z = Z.astype(np.float64)
    scale = np.sqrt(((Z - Z.mean(axis=0)) ** 2).mean())
    z = torch.from_numpy((Z - Z.mean(axis=0)) / scale)
    y = torch.from_numpy((y - y.mean()) / y.std()).double()
    fresh = clone(explainer).set_params(lr=1e-30)
    module = fresh.fit(X).net_.module_.double().requires_grad_(True)
    # The mean is in the biases of what is fitted, but training goes on with centred activations.
    shift = torch.from_numpy(Z.mean(axis=0) / scale)
    first, last = module.encoder[0], module.decoder[-1]
    with torch.no_grad():
        first.bias += first.weight @ shift
        last.bias -= shift
    for epoch in range(n_epochs):
        share = min(1, (epoch + 1) / (warm_up + 1))
        e = module.encoder(z)
        v, b = module.head.weight[0], module.head.bias[0]
        loss = sum((v @ e[m] + b - y[m]) ** 2 for m in range(len(z))) / len(z)
        decoded = module.decoder(e)
        for k in range(z.shape[1]):
            error = sum((decoded[m, k] - z[m, k]) ** 2 for m in range(len(z))) / len(z)
            loss = loss + share * beta / z.shape[1] * torch.log(1 + q * error)
        if pull_away:
            a, c = e[:, 0] * v[0], e[:, 1] * v[1]
            loss = loss + pull_away * (a @ c) ** 2 / ((a @ a) * (c @ c))
        gradients = torch.autograd.grad(loss, list(module.parameters()))
        with torch.no_grad():
            for p, g in zip(module.parameters(), gradients, strict=True):
                p -= explainer.lr * g
    with torch.no_grad():
        first.bias -= first.weight @ shift
        last.bias += shift
    module.orient()
    return module, loss.item()


@pytest.mark.parametrize(("pull_away", "warm_up"), [(0.0, 0), (2.0, 0), (0.0, 2)])
def test_training_is_gradient_descent_on_equation_1(pull_away, warm_up):
    explainer, X = explain(
        target=1,
        beta=3.0,
        q=7.0,
        pull_away=pull_away,
        lr=0.05,
        max_epochs=6,
        warm_up=warm_up,
        net_params={"optimizer": torch.optim.SGD, "batch_size": 20},
    )
    z = encode(explainer.estimator[:4], X)
    y = explainer.target_values(X).astype(np.float64)
    module, loss = trained_by_hand(X, z, y, explainer, 6, 3.0, 7.0, pull_away, warm_up)
    assert explainer.loss_curve_[-1] == pytest.approx(loss, rel=1e-4)
    for ours, by_hand in zip(explainer.net_.module_.parameters(), module.parameters(), strict=True):
        np.testing.assert_allclose(ours.numpy(), by_hand.detach().numpy(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("target", [None, 1])
def test_everything_is_in_original_units(target):
    """Other units of the activations and of the output change nothing but units."""
    X = make_X("mlp", 20)
    net, scaled = make_net("mlp")[:5], make_net("mlp")[:5]
    with torch.no_grad():
        scaled[1].weight *= 8  # activations times 8
        scaled[1].bias *= 8
        scaled[4].weight *= 4 / 8  # outputs times 4
        scaled[4].bias *= 4
    explainer = SRAEExplainer(net, target=target, **QUICK).fit(X)
    other = SRAEExplainer(scaled, target=target, **QUICK).fit(X)
    concepts = explainer.transform(X)
    same = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    same(other.transform(X), concepts)
    same(other.predict(X), 4 * explainer.predict(X))
    same(other.inverse_transform(concepts), 8 * explainer.inverse_transform(concepts))
    same(explainer.predict(X), concepts @ explainer.concept_weights_.T + explainer.intercept_)


def test_settings_of_table_1_train_other_networks():
    settings = {"SRAE": {}, "NN": {"beta": 0.0}, "SAE": {"penalty": "none"}}
    fitted = {k: explain(target=0, max_epochs=30, **p)[0] for k, p in settings.items()}
    X = make_X("mlp", 20)
    assert len({tuple(f.transform(X).ravel()) for f in fitted.values()}) == 3
    # Without its loss the decoder is not trained.
    assert fitted["NN"].score_parts(X)[1] < fitted["SRAE"].score_parts(X)[1]
    assert fitted["NN"].score(X) == 0


@pytest.mark.parametrize("penalty", sorted(PENALTIES))
def test_every_penalty_trains(penalty):
    first, X = explain(penalty=penalty, lr=1e-2, max_epochs=20)
    assert first.loss_curve_[-1] < first.loss_curve_[0]


def test_a_file_instead_of_memory_changes_nothing(monkeypatch):
    from sklexplain.concepts import _srae
    from sklexplain.layers import activation_buffer

    expected, X = explain("conv2d", layer="0")
    buffers = []

    def in_file(run, inputs, batch_size, max_bytes=0, **options):
        buffers.append(activation_buffer(run, inputs, batch_size, max_bytes, **options))
        return buffers[-1]

    monkeypatch.setattr(_srae, "activation_buffer", in_file)
    explainer, _ = explain("conv2d", layer="0")
    assert isinstance(buffers[0][0], np.memmap)
    np.testing.assert_array_equal(explainer.transform(X), expected.transform(X))
    assert explainer.score_parts(X) == expected.score_parts(X)


def test_warm_up_is_shorter_in_a_short_training():
    def curve(max_epochs, warm_up):
        return explain(max_epochs=max_epochs, warm_up=warm_up)[0].loss_curve_

    assert curve(12, 30) == curve(12, 4) != curve(12, 3)
    assert curve(93, 40) == curve(93, 31) != curve(93, 30)


def test_early_stopping_keeps_the_best_epoch():
    explainer, X = explain(
        n_samples=60,
        lr=0.05,
        max_epochs=100,
        warm_up=5,
        validation_split=0.3,
        patience=3,
        target=0,
        beta=0.0,
    )
    curve = explainer.validation_loss_curve_
    assert explainer.n_epochs_ == len(curve) < 100
    assert 5 + np.argmin(curve[5:]) == len(curve) - 4
    from sklexplain.training import split_validation

    _, valid = split_validation(0.3, X, None, None, explainer.seed_)
    y = explainer.target_values(X)
    error = np.square(explainer.predict(X)[valid] - y[valid]).mean() / y.std() ** 2
    assert error == pytest.approx(min(curve[5:]), rel=1e-3)


def test_no_convergence_is_a_warning():
    with pytest.warns(ConvergenceWarning, match="max_epochs=2 was reached"):
        explain(n_samples=60, max_epochs=2, validation_split=0.2, patience=5)


def test_splitters_decide_what_is_held_out():
    splitter = ShuffleSplit(1, test_size=0.4, random_state=0)
    first, X = explain(validation_split=splitter, target=0, beta=0.0, lr=1e-30, patience=1)
    (_, valid), y = next(splitter.split(X)), first.target_values(X)
    error = np.square(first.predict(X)[valid] - y[valid]).mean() / y.var()
    assert first.validation_loss_curve_[0] == pytest.approx(error, rel=1e-4)


def test_unused_concepts_are_counted():
    explainer, X = explain(n_concepts=3, target=0)
    assert explainer.n_active_concepts_ == 3
    with torch.no_grad():
        explainer.net_.module_.head.weight[:, 1] = 0
    with explainer._door(X) as inputs:
        explainer._describe_concepts(explainer._activations(inputs)[0])
    assert explainer.active_concepts_.tolist() == [True, False, True]
    assert explainer.n_active_concepts_ == 2


def test_pull_away_makes_concepts_orthogonal():
    correlation = {}
    for weight in (0.0, 10.0):
        explainer, X = explain(
            n_samples=100, n_concepts=3, pull_away=weight, lr=1e-2, max_epochs=60, target=0
        )
        e = explainer.transform(X).astype(np.float64)
        unit = e / np.linalg.norm(e, axis=0)
        correlation[weight] = np.square(unit.T @ unit - np.eye(3)).sum() / 6
        assert 0 <= concept_orthogonality(e) <= 1
    assert correlation[10.0] < 0.1 * correlation[0.0] + 0.01


@pytest.mark.parametrize(
    ("params", "error", "match"),
    [
        ({"n_concepts": 0}, ValueError, "'n_concepts' parameter .* Got 0 instead"),
        (
            {"hidden_layer_sizes": (4, 0)},
            ValueError,
            r"of widths, .* Got \(4, 0\) instead",
        ),
        ({"beta": -1}, ValueError, "'beta' parameter .* Got -1 instead"),
        ({"beta": "1"}, TypeError, "'beta' parameter .* Got '1' instead"),
        ({"q": 0}, ValueError, "'q' parameter .* Got 0 instead"),
        ({"lr": 0.0}, ValueError, r"'lr' parameter .* Got 0\.0 instead"),
        ({"pull_away": -0.5}, ValueError, r"'pull_away' parameter .* Got -0\.5 instead"),
        ({"penalty": "lgo"}, ValueError, "Did you mean 'log'"),
        ({"validation_split": 1.5}, ValueError, r"range \(0.0, 1.0\), a splitter or None"),
        ({"max_epochs": 0}, ValueError, "'max_epochs' parameter .* Got 0 instead"),
        ({"patience": 0}, ValueError, "'patience' parameter .* Got 0 instead"),
        ({"net_params": {"criterion": nn.L1Loss}}, ValueError, r"SRAEExplainer\(penalty=...\)"),
        ({"net_params": {"bath_size": 3}}, ValueError, "Did you mean 'batch_size'"),
        ({"lr": 1e30, "max_epochs": 20}, ValueError, "Training diverged"),
    ],
)
def test_wrong_parameters(params, error, match):
    with pytest.raises(error, match=match):
        explain(**params)


def test_mini_batches_and_random_state():
    first, X = explain(n_samples=60)
    assert first.net_.batch_size == 50
    other, _ = explain(n_samples=60, random_state=1)
    larger, _ = explain(n_samples=60, net_params={"batch_size": 60})
    results = [f.transform(X) for f in (first, other, larger)]
    assert not np.allclose(results[0], results[1])
    assert not np.allclose(results[0], results[2])


# -- judging -----------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [1, [0, 2]])
def test_score_by_hand(target):
    explainer, X = explain(n_samples=60, target=target, lr=1e-2, max_epochs=40)
    held_out = make_X("mlp", 90)[60:]
    net = explainer.estimator
    z, y = encode(net[:4], held_out), encode(net, held_out)
    targets = np.atleast_1d(target)
    # The output is a sigmoid of a linear map of Z.
    weights = net[4].weight.detach().numpy()
    z_train, y_train = encode(net[:4], X), encode(net, X)
    relevance = 0
    for t in targets:
        slope = (y_train * (1 - y_train))[:, [t]] * weights[t]
        relevance = relevance + np.abs(z_train * slope).mean(axis=0) / y_train[:, t].std()
    relevance = relevance / relevance.sum()
    np.testing.assert_allclose(explainer.relevance_, relevance, rtol=1e-4)

    decoded = explainer.inverse_transform(explainer.transform(held_out))
    varies = z.std(axis=0) > 0
    per_unit = [r2_score(z[:, k], decoded[:, k]) for k in np.flatnonzero(varies)]
    reconstruction = np.average(per_unit, weights=relevance[varies])
    r2 = r2_score(y[:, targets], np.reshape(explainer.predict(held_out), (30, -1)))
    parts = explainer.score_parts(held_out)
    assert parts == pytest.approx((r2, reconstruction), rel=1e-4)
    if min(parts) > 0:
        expected = 2 * r2 * reconstruction / (r2 + reconstruction)
    else:
        expected = 0
    assert explainer.score(held_out) == pytest.approx(expected, rel=1e-4)


def test_score_does_not_depend_on_batches():
    small, X = explain(n_samples=60, batch_size=7)
    large, _ = explain(n_samples=60)
    np.testing.assert_allclose(small.score_parts(X), large.score_parts(X), rtol=1e-4)


@pytest.fixture(scope="module")
def digits():
    """A classifier of digits and what it was not trained on."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0, stratify=y)
    classifier = MLPClassifier((32,), max_iter=60, learning_rate_init=5e-3, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(X_train, y_train)
    assert classifier.score(X_test, y_test) > 0.95
    return classifier, X_train, X_test


def test_five_concepts_explain_a_classifier(digits):
    """Held out: the output is told, and the units that matter are rebuilt."""
    classifier, X_train, X_test = digits
    explainer = SRAEExplainer(
        classifier,
        target=0,
        hidden_layer_sizes=(200, 50),
        lr=2e-3,
        max_epochs=90,
        validation_split=None,
        random_state=0,
    ).fit(X_train)
    told, rebuilt = explainer.score_parts(X_test)
    assert told >= 0.95
    assert rebuilt >= 0.9
    assert explainer.score(X_test) == pytest.approx(2 * told * rebuilt / (told + rebuilt))


def test_grid_search_over_what_matters(digits):
    classifier, X, _ = digits
    explainer = SRAEExplainer(classifier, target=0, **{**QUICK, "lr": 1e-2, "max_epochs": 30})
    grid = {"beta": [0.0, 10.0], "q": [1.0], "n_concepts": [3], "layer": [None, "hidden_0"]}
    search = GridSearchCV(explainer, grid, cv=2).fit(X[:200])
    # Without reconstruction there is no explanation.
    assert search.best_params_["beta"] == 10.0
    scores = search.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    assert search.best_estimator_.estimator_.estimator is classifier


# -- containers and state ----------------------------------------------------------------------


def test_a_frame_through_a_pipeline():
    data = load_iris(as_frame=True)
    pipeline = make_pipeline(
        StandardScaler(), MLPClassifier((6,), solver="lbfgs", max_iter=300, random_state=0)
    ).fit(data.data, data.target)
    explainer = SRAEExplainer(pipeline, target=0, **QUICK).fit(data.data)
    expected = explainer.transform(data.data)
    frame = explainer.set_output(transform="pandas").transform(data.data)
    assert list(frame.columns) == ["concept0", "concept1"]
    np.testing.assert_array_equal(frame.to_numpy(), expected)
    assert isinstance(frame, pd.DataFrame)
    assert explainer.predict(data.data).shape == (150,)
    assert explainer.concept_attributions(data.data, "saliency").shape == (150, 2, 4)


def test_pickle_keeps_everything():
    explainer, X = explain("conv1d", target=0)
    again = pickle.loads(pickle.dumps(explainer))
    np.testing.assert_array_equal(again.predict(X), explainer.predict(X))
    assert again.score_parts(X) == explainer.score_parts(X)
    np.testing.assert_array_equal(
        again.concept_attributions(X, "saliency"), explainer.concept_attributions(X, "saliency")
    )


def test_not_fitted_and_wrong_concepts():
    with pytest.raises(NotFittedError):
        SRAEExplainer(make_net("mlp")).inverse_transform(np.zeros((1, 5)))
    explainer, _ = explain()
    with pytest.raises(ValueError, match=r"shape \(n, 3\).*n_concepts=2"):
        explainer.inverse_transform(np.zeros((1, 3)))


def test_faithfulness_of_what_is_returned():
    explainer, X = explain(target=0, n_samples=60, max_epochs=40, lr=1e-2)
    result = faithfulness(explainer.target_values(X), explainer.predict(X))
    assert result.r2 == pytest.approx(explainer.score_parts(X)[0], rel=1e-4)
    assert partial(faithfulness, explainer.target_values(X))(explainer.target_values(X)).f_reg == 0


class Tokens(nn.Module):
    """A network that takes token numbers."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(9, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(torch.relu(self.embed(x)).mean(dim=1))


def test_a_network_of_token_numbers():
    X = np.random.RandomState(0).randint(9, size=(30, 6))
    explainer = SRAEExplainer(Tokens(), layer="embed", target=0, **QUICK).fit(X)
    assert explainer.layer_shape_ == explainer.relevance_.shape == (6, 4)
    assert explainer.transform(X).shape == (30, 2)
    assert explainer.concept_attributions(X[:2], "feature_ablation", baseline="zeros").shape == (
        2,
        2,
        6,
    )
    with pytest.raises(TypeError, match="takes integers, which have no gradient"):
        explainer.concept_attributions(X[:2])


def test_a_step_without_torch_form_before_the_network():
    X, y = load_iris(return_X_y=True)
    pipeline = make_pipeline(
        KernelPCA(3), MLPClassifier((4,), solver="lbfgs", max_iter=50, random_state=0)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        pipeline.fit(X, y)
    explainer = SRAEExplainer(pipeline, target=0, **QUICK).fit(X)
    assert explainer.relevance_.sum() == pytest.approx(1)
    assert explainer.concept_attributions(X[:2], "shapley_sampling").shape == (2, 2, 4)
    with pytest.raises(TypeError, match="no torch form"):
        explainer.concept_attributions(X[:2])


def test_nothing_changes_the_model():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))
    net[0].weight.grad = torch.ones(6, 5)
    X = make_X("mlp", 20)
    before = pickle.dumps(net)
    explainer = SRAEExplainer(net, target=0, **QUICK).fit(X)
    explainer.predict(X)
    explainer.score(X)
    explainer.concept_attributions(X, "saliency")
    explainer.concept_attributions(X, "excitation_backprop")
    assert pickle.dumps(net) == before
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_widths_and_progress(capsys):
    explainer, _ = explain(hidden_layer_sizes=(7, 3), verbose=1)
    module = explainer.net_.module_
    widths = [
        [m.out_features for m in part if isinstance(m, nn.Linear)]
        for part in (module.encoder, module.decoder)
    ]
    assert widths == [[7, 3, 2], [3, 7, 8]]
    assert "train_loss" in capsys.readouterr().out
    explain()
    assert capsys.readouterr().out == ""


# -- callers' contexts and data ----------------------------------------------------------------


def test_what_happens_to_x_after_fit_changes_nothing():
    X = make_X("mlp", 20)
    given = X.copy()
    explainer = SRAEExplainer(make_net("mlp"), **QUICK).fit(given)
    expected = SRAEExplainer(make_net("mlp"), **QUICK).fit(X)
    given[:] = 0
    np.testing.assert_array_equal(explainer.relevance_, expected.relevance_)
    options = {"method_params": {"n_steps": 500}}
    maps = explainer.concept_attributions(X[:3], **options)
    np.testing.assert_array_equal(maps, expected.concept_attributions(X[:3], **options))


def test_inference_mode_of_the_caller_changes_nothing():
    X, net = make_X("mlp", 20), make_net("mlp")
    expected = SRAEExplainer(net, **QUICK).fit(X)
    for context in (torch.inference_mode, torch.no_grad):
        with context():
            explainer = SRAEExplainer(net, **QUICK).fit(X)
            assert explainer.score_parts(X) == expected.score_parts(X)


def test_default_dtype_of_torch_changes_nothing():
    X, net = make_X("mlp", 20), make_net("mlp")
    expected = SRAEExplainer(net, **QUICK).fit(X)
    torch.set_default_dtype(torch.float64)
    try:
        explainer = SRAEExplainer(net, **QUICK).fit(X)
        np.testing.assert_array_equal(explainer.transform(X), expected.transform(X))
        assert explainer.score_parts(X) == expected.score_parts(X)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("first", [nn.ReLU(inplace=True), nn.Hardtanh(-9, 9, inplace=True)])
def test_networks_that_begin_in_place(first):
    X = make_X("mlp", 30)
    net = nn.Sequential(first, nn.Linear(5, 2))
    explainer = SRAEExplainer(net, **QUICK).fit(X)
    weight = net[1].weight.detach().numpy()
    entered = np.abs(first(torch.as_tensor(X).clone()).numpy()).mean(axis=0)
    scale = explainer.net_.module_.y_scale.numpy()
    expected = (entered * np.abs(weight) / scale[:, None]).sum(axis=0)
    np.testing.assert_allclose(explainer.relevance_, expected / expected.sum(), rtol=1e-5)
    np.testing.assert_array_equal(X, make_X("mlp", 30))


def test_networks_that_return_several_things_are_told_what_to_do():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(5, 3)

        def forward(self, x):
            return self.layer(x), x

    with pytest.raises(ValueError, match="returns tuple, not one tensor.*wrap it in a module"):
        SRAEExplainer(Two(), layer="layer", **QUICK).fit(make_X("mlp"))


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"hidden_layer_sizes": 100}, "must be a sequence of widths"),
        ({"validation_split": "x"}, r"range \(0.0, 1.0\), a splitter or None"),
        ({"validation_split": True}, r"range \(0.0, 1.0\), a splitter or None"),
    ],
)
def test_parameters_of_the_wrong_type(params, match):
    with pytest.raises(TypeError, match=match):
        explain(**params)


@pytest.mark.parametrize("n_targets", [1, 3])
def test_signs_of_concepts_are_chosen_and_change_nothing_else(n_targets):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = ConceptModule((6,), 5, (7,), 2.0, np.arange(n_targets), np.ones(n_targets))
        z = torch.randn(9, 6)
    with torch.no_grad():
        concepts = module.encode(z)
        expected = module.predict(concepts), module.decode(concepts)
        before = module.head.weight.clone()
        module.orient()
        found = module.encode(z)
        assert torch.equal(module.predict(found), expected[0])
        assert torch.equal(module.decode(found), expected[1])
    largest = before.gather(0, before.abs().argmax(dim=0, keepdim=True))[0]
    assert 0 < (largest < 0).sum() < 5
    assert torch.equal(found, concepts * largest.sign())
    assert torch.equal(module.head.weight, before * largest.sign())


def test_concepts_add_to_a_single_target():
    explainer, _ = explain(target=0, n_concepts=4)
    assert (explainer.concept_weights_ > 0).all()
    explainer, _ = explain(target=None, n_concepts=4)
    scaled = explainer.net_.module_.linear_head()[2]
    assert (scaled.max(axis=0) == np.abs(scaled).max(axis=0)).all()


def test_scoring_callbacks_see_targets():
    scored = []

    def score(net, X, y=None):
        scored.append(np.asarray(y))
        return 1.0

    options = {"callbacks": [("own", EpochScoring(score, name="own"))]}
    params = {"net_params": options, "validation_split": 0.2, "target": 0, "n_samples": 30}
    explainer, X = explain(**params, patience=1, lr=1e-9)
    true = (explainer.target_values(X) - explainer.target_values(X).mean()).ravel()
    assert len(scored) == explainer.n_epochs_
    assert scored[0].shape == (6, 1)
    standardised = true / explainer.target_values(X).std()
    assert np.isclose(scored[0], standardised[None], atol=1e-4).any(axis=1).all()


# -- scales, sizes and what cannot be explained ------------------------------------------------


@pytest.mark.parametrize("offset", [15.0, 1000.0])
def test_a_large_mean_of_activations_hides_nothing(offset):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 8))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 2)).double()
    scores = []
    for shift in (0.0, offset):
        with torch.no_grad():
            net[0].bias += shift
            net[1].bias -= net[1].weight.sum(dim=1) * shift
        explainer = SRAEExplainer(
            net,
            **{"n_concepts": 3, "hidden_layer_sizes": (30,), "lr": 1e-2, "random_state": 0},
            **{"max_epochs": 60, "validation_split": None},
        )
        scores.append(explainer.fit(X).score_parts(X))
    np.testing.assert_allclose(scores[0], scores[1], atol=0.02)
    assert min(scores[1]) > 0.9


def test_folding_the_mean_changes_no_result():
    torch.manual_seed(0)
    z = torch.rand(20, 6) + 5
    module = ConceptModule((6,), 3, (7,), 2.0, [0.0], [1.0], z_mean=z.mean(dim=0).numpy())
    before = module.encode(z), module.decode(module.encode(z))
    module.fold()
    assert not module.z_mean.any()
    torch.testing.assert_close(module.encode(z), before[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(module.decode(before[0]), before[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("constant", [1e-3, 3.0, 1e3])
def test_an_output_that_does_not_vary_has_no_active_concepts(constant):
    X = make_X("mlp", 40)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))
    with torch.no_grad():
        net[2].weight[1] = 0
        net[2].bias[1] = constant
    with pytest.warns(SklexplainWarning, match="output 1 does not vary over X"):
        explainer = SRAEExplainer(net, target=1, **QUICK).fit(X)
    assert explainer.n_active_concepts_ == 0
    with pytest.warns(SklexplainWarning, match="output 1 does not vary"):
        several = SRAEExplainer(net, **{**QUICK, "max_epochs": 30}).fit(X)
    assert several.n_active_concepts_ == 2  # of the others


def test_as_many_concepts_as_units_are_said():
    X, net = make_X("mlp", 20), nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 2))
    for n_concepts in (3, 4):
        with pytest.warns(SklexplainWarning, match=f"n_concepts={n_concepts}, but .* 3 units"):
            SRAEExplainer(net, **{**QUICK, "n_concepts": n_concepts}).fit(X)
    SRAEExplainer(net, **{**QUICK, "n_concepts": 2}).fit(X)


def test_scores_of_one_sample_are_not_defined():
    explainer, X = explain()
    with pytest.warns(UndefinedMetricWarning, match="fewer than two samples"):
        assert np.isnan(explainer.score_parts(X[:1])).all()
    with pytest.warns(UndefinedMetricWarning):
        assert np.isnan(explainer.score(X[:1]))


def test_targets_by_the_names_of_classes():
    X, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    model = MLPClassifier((8,), solver="lbfgs", max_iter=200, random_state=0).fit(X, names)
    by_name = SRAEExplainer(model, target="versicolor", **QUICK).fit(X)
    by_number = SRAEExplainer(model, target=1, **QUICK).fit(X)
    np.testing.assert_array_equal(by_name.transform(X), by_number.transform(X))
    with pytest.raises(ValueError, match="Did you mean 'versicolor'.*number of an output"):
        SRAEExplainer(model, target="versicolour", **QUICK).fit(X)
    two = MLPClassifier((8,), max_iter=200, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        two.fit(X[:100], names[:100])
    assert SRAEExplainer(two, target="versicolor", **QUICK).fit(X)._target.units == (0,)
    with pytest.raises(ValueError, match="target='setosa' is unknown"):
        SRAEExplainer(two, target="setosa", **QUICK).fit(X)


@pytest.mark.parametrize("baseline", ["mean", "zeros", "array", "rows", "own"])
def test_concepts_at_the_baseline_are_what_maps_count_from(baseline):
    X, net = make_X("mlp", 30), make_net("mlp")
    explainer = SRAEExplainer(net, **QUICK).fit(X)
    given = {
        "array": X[7],
        "rows": X[[3, 5]],
        "own": lambda X: X * 0.5,
    }.get(baseline, baseline)
    moved = explainer.transform(X[:6]) - explainer.baseline_concepts(X[:6], given)
    maps = explainer.concept_attributions(X[:6], method_params={"n_steps": 2000}, baseline=given)
    sums = maps.reshape(*maps.shape[:2], -1).sum(axis=2)
    np.testing.assert_allclose(moved, sums, atol=2e-3 * np.abs(moved).max())
    rows = {"zeros": 0 * X[:1], "array": X[[7]], "rows": X[[3, 5]], "own": X[:6] * 0.5}
    rows = rows.get(baseline, X.mean(axis=0, keepdims=True))
    expected = explainer.transform(rows)
    expected = expected if baseline == "own" else expected.mean(axis=0)
    np.testing.assert_allclose(
        explainer.baseline_concepts(X[:6], given), np.broadcast_to(expected, moved.shape), atol=1e-5
    )
