import copy
import io
import pickle
import warnings

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import skops.io
import torch
from sklearn.base import clone, is_classifier
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError
from sklearn.metrics import r2_score
from sklearn.model_selection import (
    GridSearchCV,
    GroupShuffleSplit,
    PredefinedSplit,
    TimeSeriesSplit,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from skorch.callbacks import Callback
from torch import nn
from torch.nn import functional as F

from sklexplain.datasets import load_ecg5000, make_motif_series, make_relevant_columns
from sklexplain.nets import Autoencoder, ContrastiveEncoder, VariationalAutoencoder
from sklexplain.training import PretextNet, corrupt
from sklexplain.utils import draw_seed

X, Y, _ = make_relevant_columns(60, random_state=0)  # (60, 10), two factors


def quick(module="mlp", **params):
    """Make an autoencoder that trains in a few milliseconds."""
    defaults = {
        "n_components": 2,
        "hidden_layer_sizes": (8,),
        "max_epochs": 2,
        "validation_split": None,
        "random_state": 0,
    }
    return Autoencoder(module, **(defaults | params))


def test_tags():
    for lambda_class in (0.0, 1.0):
        tags = get_tags(quick(lambda_class=lambda_class))
        assert tags.input_tags.two_d_array and tags.input_tags.three_d_array
        assert tags.transformer_tags.preserves_dtype == ["float32"]
        assert (tags.estimator_type == "classifier") == (lambda_class > 0)


# -- training is what it says


def _reference_epoch(estimator, X, y, weights):
    """One epoch of SGD written out, in float64, for an MLP with one hidden layer."""
    weights = {k: v.double().requires_grad_() for k, v in weights.items()}
    linear = lambda name, x: F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])  # noqa: E731
    generator = torch.Generator().manual_seed(draw_seed(estimator.random_state))
    losses = []
    for start in range(0, len(X), estimator.batch_size):
        clean = torch.from_numpy(X[start : start + estimator.batch_size]).float()
        seen = corrupt(clean, estimator.pretext, generator=generator).double()
        code = linear("encoder.code", linear("encoder.linear0", seen).relu())
        output = linear("decoder.output", linear("decoder.linear0", code).relu())
        error = output - clean.double()
        loss = error.square().mean() if estimator.loss == "squared_error" else error.abs().mean()
        if estimator.lambda_class > 0:
            log_proba = linear("classifier", code).log_softmax(dim=1)
            target = torch.from_numpy(y[start : start + estimator.batch_size])
            picked = log_proba[torch.arange(len(target)), target]
            loss = loss - estimator.lambda_class * picked.mean()
        gradients = torch.autograd.grad(loss, list(weights.values()))
        with torch.no_grad():
            for weight, gradient in zip(weights.values(), gradients, strict=True):
                weight -= estimator.lr * (gradient + estimator.weight_decay * weight)
        losses.append((len(clean), loss.item()))
    return weights, sum(n * loss for n, loss in losses) / len(X)


@pytest.mark.parametrize("pretext", ["reconstruction", "denoising", "inpainting"])
@pytest.mark.parametrize("lambda_class", [0.0, 0.7])
@pytest.mark.parametrize("loss", ["squared_error", "absolute_error"])
def test_one_epoch_equals_plain_torch(pretext, lambda_class, loss):
    estimator = quick(
        pretext=pretext,
        lambda_class=lambda_class,
        loss=loss,
        max_epochs=1,
        batch_size=16,  # 60 samples: the last batch has 12, and counts
        lr=0.1,
        weight_decay=0.01,
        net_params={"optimizer": torch.optim.SGD, "iterator_train__shuffle": False},
    )
    start = copy.deepcopy(estimator.initialize(X, Y).net_.module_.state_dict())
    estimator.fit(X, Y)
    expected, loss = _reference_epoch(estimator, X, Y, start)
    trained = estimator.net_.module_.state_dict()
    assert trained.keys() == expected.keys()
    for name, weight in trained.items():
        torch.testing.assert_close(weight.double(), expected[name].detach(), atol=1e-6, rtol=1e-5)
        assert not torch.equal(weight, start[name])
    np.testing.assert_allclose(estimator.loss_curve_, [loss], rtol=1e-5)


def test_linear_autoencoder_reaches_pca():
    from sklearn.decomposition import PCA

    estimator = quick(hidden_layer_sizes=(), lr=0.02, max_epochs=150).fit(X)
    pca = PCA(2).fit(X)
    best = r2_score(X, pca.inverse_transform(pca.transform(X)), multioutput="variance_weighted")
    assert best - 0.01 < estimator.score(X) <= best + 1e-6


def test_learns_heartbeats_with_defaults():
    X, y = load_ecg5000(return_X_y=True, split="train")
    with pytest.warns(ConvergenceWarning, match="max_epochs=25"):
        estimator = Autoencoder(max_epochs=25, random_state=0).fit(X)
    assert estimator.score(X) > 0.8
    assert estimator.transform(X).shape == (500, 8)


def test_weights_are_restored_from_the_best_epoch():
    fold = np.r_[np.full(20, -1), np.zeros(40)].astype(int)  # 20 samples to overfit on
    estimator = quick(
        hidden_layer_sizes=(64,),
        lr=0.02,
        max_epochs=300,
        patience=5,
        validation_split=PredefinedSplit(fold),
    ).fit(X)
    curve = estimator.validation_loss_curve_
    assert estimator.n_epochs_ == len(curve) == len(estimator.loss_curve_) < 300
    best = int(np.argmin(curve))
    assert best == len(curve) - 1 - 5
    reconstruction = estimator.inverse_transform(estimator.transform(X[20:]))
    np.testing.assert_allclose(np.mean((reconstruction - X[20:]) ** 2), curve[best], rtol=1e-5)


def test_patience_and_split_decide_when_to_stop():
    epochs = {}
    for patience in (2, 20):
        estimator = quick(lr=0.05, max_epochs=400, patience=patience, validation_split=0.3)
        epochs[patience] = estimator.fit(X).n_epochs_
    assert epochs[2] < epochs[20] < 400
    never = quick(lr=0.05, max_epochs=40, patience=1).fit(X)
    assert never.n_epochs_ == 40 and never.validation_loss_curve_ is None


def test_unconverged_training_warns_at_the_callers_line():
    with pytest.warns(ConvergenceWarning, match="max_epochs=3 was reached") as record:
        quick(max_epochs=3, validation_split=0.2).fit(X)
    assert record[0].filename == __file__


@pytest.mark.parametrize("pretext", ["denoising", "inpainting"])
def test_validation_inputs_are_corrupted_alike_in_every_epoch(pretext):
    estimator = quick(pretext=pretext, lr=1e-12, max_epochs=3, patience=5, validation_split=0.3)
    with pytest.warns(ConvergenceWarning):
        estimator.fit(X)
    np.testing.assert_allclose(np.diff(estimator.validation_loss_curve_), 0, atol=1e-6)
    assert np.abs(np.diff(estimator.loss_curve_)).min() > 1e-5
    clean = estimator.set_params(pretext="reconstruction")
    with pytest.warns(ConvergenceWarning):
        corrupted = estimator.validation_loss_curve_
        assert clean.fit(X).validation_loss_curve_ != corrupted


@pytest.mark.parametrize(
    ("params", "other"),
    [
        ({"pretext": "denoising"}, {"noise_std": 1.0}),
        ({"pretext": "inpainting"}, {"mask_rate": 0.6}),
        ({}, {"lr": 0.01}),
        ({}, {"weight_decay": 0.1}),
        ({}, {"batch_size": 10}),
        ({}, {"max_epochs": 3}),
        ({}, {"loss": "absolute_error"}),
        ({}, {"pretext": "inpainting"}),
        ({}, {"hidden_layer_sizes": (9,)}),
        ({}, {"lambda_class": 0.1}),
        ({}, {"validation_split": TimeSeriesSplit(3), "patience": 1}),
        ({}, {"random_state": 1}),
        ({}, {"module": "conv1d"}),
        ({}, {"net_params": {"optimizer__betas": (0.5, 0.9)}}),
    ],
)
def test_every_parameter_matters(params, other):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        one, two = (quick(**p).fit(X, Y).transform(X) for p in (params, params | other))
    assert np.abs(one - two).max() > 1e-5


def test_batches_are_all_used():
    history = quick(batch_size=16).fit(X).net_.history
    assert [batch["train_batch_size"] for batch in history[0, "batches"]] == [16, 16, 16, 12]


def test_samples_are_shuffled_by_random_state():
    orders = []

    class Record(Callback):
        def on_batch_begin(self, net, batch, training, **kwargs):
            orders[-1].append(batch[0].numpy())

    for random_state in (0, 0, 1):
        orders.append([])
        params = {"callbacks": [Record()]}
        quick(max_epochs=2, batch_size=60, random_state=random_state, net_params=params).fit(X)
    (first, second), again, other = orders
    np.testing.assert_array_equal(np.sort(first, axis=0), np.sort(X.astype(np.float32), axis=0))
    assert not np.array_equal(first, X.astype(np.float32))
    assert not np.array_equal(first, second) and not np.array_equal(first, other[0])
    np.testing.assert_array_equal(first, again[0])


def test_verbose_prints_a_line_per_epoch(capsys):
    quick(max_epochs=3).fit(X)
    assert capsys.readouterr().out == ""
    quick(max_epochs=3, verbose=1).fit(X)
    assert len(capsys.readouterr().out.strip().splitlines()) == 2 + 3


def test_groups_and_time_reach_the_splitter(monkeypatch):
    splits = []
    fit_split = PretextNet.fit_split

    def spy(self, X, y, train, valid, seed):
        splits.append((train, valid))
        return fit_split(self, X, y, train, valid, seed)

    monkeypatch.setattr(PretextNet, "fit_split", spy)
    groups = np.repeat(np.arange(6), 10)
    by_group = GroupShuffleSplit(n_splits=1, test_size=0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        quick(validation_split=by_group).fit(X, groups=groups)
        quick(validation_split=TimeSeriesSplit(4)).fit(X)
        quick(validation_split=0.4).fit(X, groups=groups)
    (train, valid), (before, after), (others, share) = splits
    assert not set(groups[train]) & set(groups[valid]) and len(valid) == 20
    assert before.max() < after.min()
    assert not set(groups[others]) & set(groups[share]) and len(share) == 20


# -- random states


def test_random_state_is_all_the_randomness():
    estimator = Autoencoder(
        max_epochs=3, pretext="denoising", hidden_layer_sizes=(8,), patience=1, random_state=3
    )
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        first = estimator.fit(X).transform(X)
        torch.randn(5)
        again = clone(estimator).fit(X).transform(X)
        anything = clone(estimator).set_params(random_state=None).fit(X).transform(X)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, anything)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)
    torch.set_rng_state(torch_state)


def test_global_generators_are_untouched():
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()
    for random_state in (None, 0, np.random.RandomState(0)):
        estimator = quick(pretext="inpainting", random_state=random_state).fit(X)
        pickle.loads(pickle.dumps(estimator)).transform(X)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)
    assert torch.equal(torch.get_rng_state(), torch_state)


# -- shapes and containers


class ImageAutoencoder(nn.Module):
    """A network of a user: convolutions with BatchNorm, and an argument of its own."""

    def __init__(self, n_components, input_shape, width=4):
        super().__init__()
        channels, height, _ = input_shape
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, width, 3, 2, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(width * (height // 2) ** 2, n_components),
        )
        self.decoder = nn.Sequential(
            nn.Linear(n_components, width * (height // 2) ** 2),
            nn.Unflatten(1, (width, height // 2, height // 2)),
            nn.ConvTranspose2d(width, channels, 2, 2),
        )


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        ("mlp", (12,)),
        ("mlp", (3, 12)),
        ("mlp", (2, 6, 6)),
        ("conv1d", (12,)),
        ("conv1d", (3, 13)),
        ("conv2d", (6, 5)),
        ("conv2d", (2, 6, 5)),
        ("lstm", (12,)),
        ("lstm", (12, 3)),
        (ImageAutoencoder, (2, 6, 6)),
    ],
)
def test_two_to_four_axes(module, shape):
    X = np.random.RandomState(0).standard_normal((30, *shape))
    estimator = quick(module, batch_size=16).fit(X)
    Z = estimator.transform(X)
    assert Z.shape == (30, 2) and Z.dtype == np.float32
    assert estimator.input_shape_ == shape and estimator.n_features_in_ == shape[0]
    reconstruction = estimator.inverse_transform(Z)
    assert reconstruction.shape == X.shape and reconstruction.dtype == np.float32
    flat = r2_score(X.reshape(30, -1), reconstruction.reshape(30, -1), multioutput="raw_values")
    weights = X.reshape(30, -1).var(axis=0)
    np.testing.assert_allclose(estimator.score(X), np.average(flat, weights=weights), rtol=1e-5)
    one_by_one = np.concatenate([estimator.transform(X[i : i + 1]) for i in range(len(X))])
    np.testing.assert_allclose(Z, one_by_one, rtol=1e-4, atol=1e-6)
    module, method = estimator._torch_form()
    names = [name for name, _ in module.named_modules()]
    assert names[1] == "encoder" and "decoder" in names
    with torch.no_grad():
        code = getattr(module, method)(torch.from_numpy(X[:3]).float()).numpy()
    np.testing.assert_allclose(code, Z[:3], rtol=1e-5, atol=1e-6)


def test_net_is_left_in_eval_mode():
    estimator = quick(ImageAutoencoder).fit(np.random.RandomState(0).rand(20, 1, 4, 4))
    assert not any(part.training for part in estimator.net_.module_.modules())
    stopped = quick(lr=0.05, patience=1, max_epochs=200, validation_split=0.3).fit(X)
    assert not stopped.net_.module_.training


def test_transform_is_in_eval_mode_whatever_the_mode_is():
    images = np.random.RandomState(0).rand(20, 1, 4, 4)
    estimator = quick(ImageAutoencoder).fit(images)
    expected = estimator.transform(images)
    module = estimator.net_.module_.train()
    module.encoder[2].eval()
    buffers = copy.deepcopy(dict(module.named_buffers()))
    np.testing.assert_array_equal(estimator.transform(images), expected)
    assert module.training and module.encoder[1].training and not module.encoder[2].training
    for name, buffer in module.named_buffers():
        assert torch.equal(buffer, buffers[name])


def test_device_reaches_the_net():
    device = torch.device("cpu", 0)
    assert quick(device=device).fit(X).net_.device is device


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu():
    state = torch.cuda.get_rng_state()
    on_gpu = quick("lstm", device="cuda", max_epochs=1).fit(X)
    assert next(on_gpu.net_.module_.parameters()).device.type == "cuda"
    assert torch.equal(torch.cuda.get_rng_state(), state)
    on_cpu = quick("lstm", max_epochs=1).fit(X)
    np.testing.assert_allclose(on_gpu.transform(X), on_cpu.transform(X), atol=1e-3)
    loaded = pickle.loads(pickle.dumps(on_gpu))
    np.testing.assert_array_equal(loaded.transform(X), on_gpu.transform(X))


def test_motifs_are_learned_by_convolutions():
    series, y, _ = make_motif_series(300, 32, 12, random_state=0)
    estimator = quick(
        "conv1d", lambda_class=1.0, n_components=4, hidden_layer_sizes=(8, 16), lr=5e-3,
        max_epochs=20,
    ).fit(series, y)  # fmt: skip
    assert estimator.score(series, y) > 0.9


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_data_frames(frame):
    names = [f"c{i}" for i in range(X.shape[1])]
    data = frame(dict(zip(names, X.T, strict=True)))
    estimator = quick().fit(data)
    assert list(estimator.feature_names_in_) == names
    np.testing.assert_array_equal(estimator.transform(data), quick().fit(X).transform(X))
    with pytest.raises(ValueError, match="feature names"):
        estimator.transform(data[names[::-1]])
    output = estimator.set_output(transform="pandas").transform(data)
    assert list(output.columns) == ["autoencoder0", "autoencoder1"]


def test_tensors_lists_and_integers():
    expected = quick().fit(X.astype(np.float32)).transform(X.astype(np.float32))
    for same in (torch.from_numpy(X), X.tolist(), X):
        np.testing.assert_array_equal(quick().fit(same).transform(same), expected)
    digits = np.random.RandomState(0).randint(0, 256, (30, 8, 8), dtype=np.uint8)
    np.testing.assert_array_equal(
        quick().fit(digits).transform(digits),
        quick().fit(digits.astype(np.float32)).transform(digits.astype(np.float32)),
    )


# -- the class head


def test_class_head():
    labels = np.array(["no", "yes"])[Y]
    estimator = quick(lambda_class=2.0, lr=0.02, max_epochs=30).fit(X, labels)
    assert is_classifier(estimator) and list(estimator.classes_) == ["no", "yes"]
    proba = estimator.predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(estimator.predict(X), estimator.classes_[proba.argmax(axis=1)])
    assert estimator.score(X, labels) == np.mean(estimator.predict(X) == labels) > 0.9
    with pytest.raises(ValueError, match="score needs y"):
        estimator.score(X)
    with pytest.raises(ValueError, match="requires y to be passed.*lambda_class=2.0"):
        estimator.fit(X)


def test_without_class_head_y_is_ignored():
    estimator = quick().fit(X, Y)
    np.testing.assert_array_equal(estimator.transform(X), quick().fit(X).transform(X))
    assert not is_classifier(estimator) and not hasattr(estimator, "classes_")
    assert not hasattr(estimator, "predict") and not hasattr(estimator, "predict_proba")
    with pytest.raises(AttributeError) as raised:
        estimator.predict(X)
    assert "lambda_class > 0" in str(raised.value.__cause__)
    refitted = quick(lambda_class=1.0).fit(X, Y).set_params(lambda_class=0.0).fit(X)
    assert not hasattr(refitted, "classes_")


# -- saved and loaded


def _save_skops(estimator):
    data = skops.io.dumps(estimator)
    return skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data))


def _save_joblib(estimator):
    file = io.BytesIO()
    joblib.dump(estimator, file)
    file.seek(0)
    return joblib.load(file)


def _save_state_dict(estimator):
    file = io.BytesIO()
    torch.save(estimator.net_.module_.state_dict(), file)
    file.seek(0)
    state_dict = torch.load(file, weights_only=True)
    fresh = clone(estimator).set_params(random_state=7)
    return fresh.initialize(X[:20], Y[:20]).load_state_dict(state_dict)


SAVE = {
    "skops": _save_skops,
    "joblib": _save_joblib,
    "pickle": lambda estimator: pickle.loads(pickle.dumps(estimator)),
    "deepcopy": copy.deepcopy,
    "state_dict": _save_state_dict,
}


@pytest.mark.parametrize("save", SAVE.values(), ids=SAVE)
@pytest.mark.parametrize("module", ["mlp", "conv1d", "lstm"])
def test_saved_and_loaded(save, module):
    estimator = quick(module, lambda_class=1.0).fit(X, Y)
    loaded = save(estimator)
    np.testing.assert_array_equal(loaded.transform(X), estimator.transform(X))
    np.testing.assert_array_equal(loaded.predict(X), estimator.predict(X))
    assert not loaded.net_.module_.training
    if save is not _save_state_dict:
        assert loaded.loss_curve_ == estimator.loss_curve_
        assert loaded.net_.history[-1, "train_loss"] == estimator.loss_curve_[-1]
    loaded.fit(X, Y)  # and can be fitted again
    if save is not _save_state_dict:
        np.testing.assert_array_equal(loaded.transform(X), estimator.transform(X))


def test_saving_keeps_buffers_and_user_modules():
    images = np.random.RandomState(0).rand(20, 1, 4, 4) * 5
    estimator = quick(ImageAutoencoder, net_params={"module__width": 3}).fit(images)
    assert estimator.net_.module_.encoder[1].running_mean.abs().sum() > 0
    for save in (_save_skops, _save_joblib, copy.deepcopy):
        loaded = save(estimator)
        np.testing.assert_array_equal(loaded.transform(images), estimator.transform(images))


def test_skops_files_hide_no_pickle():
    data = skops.io.dumps(quick().fit(X))
    assert "bytes" not in str(skops.io.get_untrusted_types(data=data))
    state = quick().fit(X).net_.__getstate__()
    assert not any(isinstance(value, (bytes, nn.Module)) for value in state.values())


def test_initialize_is_not_fitted():
    estimator = quick().initialize(X)
    with pytest.raises(NotFittedError):
        estimator.transform(X)
    with pytest.raises(ValueError, match="weights are not those of this Autoencoder"):
        estimator.load_state_dict(quick(n_components=3).initialize(X).net_.module_.state_dict())
    with pytest.raises(NotFittedError):
        estimator.transform(X)
    with pytest.raises(AttributeError, match="call initialize"):
        quick().load_state_dict({})
    # A fitted estimator that is initialised again has lost what it learned.
    with pytest.raises(NotFittedError):
        quick().fit(X).initialize(X).transform(X)


# -- with the rest of scikit-learn and skorch


def test_grid_search_and_pipelines():
    pipeline = make_pipeline(StandardScaler(), quick(max_epochs=20, lr=0.02))
    search = GridSearchCV(pipeline, {"autoencoder__n_components": [1, 2]}, cv=2).fit(X)
    assert search.best_params_ == {"autoencoder__n_components": 2}


class CountEpochs(Callback):
    """Count the epochs."""

    def on_train_begin(self, net, **kwargs):
        self.count_ = 0

    def on_epoch_end(self, net, **kwargs):
        self.count_ += 1


def test_net_params():
    params = {
        "optimizer": torch.optim.SGD,
        "optimizer__momentum": 0.5,
        "callbacks": [("count", CountEpochs())],
        "callbacks__early_stopping__threshold": 0.5,
        "criterion": nn.HuberLoss,
        "criterion__delta": 0.1,
    }
    estimator = quick(net_params=params, validation_split=0.3, patience=2, max_epochs=50).fit(X)
    net = estimator.net_
    assert isinstance(net.optimizer_, torch.optim.SGD)
    assert net.optimizer_.param_groups[0]["momentum"] == 0.5
    assert net.criterion_.delta == 0.1
    assert estimator.n_epochs_ == dict(net.callbacks_)["count"].count_ == 3  # 1 and patience 2
    assert params["callbacks"][0][0] == "count" and len(params["callbacks"]) == 1


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"train_split": None}, ValueError, r"'train_split': set Autoencoder\(validation_split="),
        ({"module": nn.Linear}, ValueError, r"'module': set Autoencoder\(module="),
        ({"warm_start": True}, ValueError, "'warm_start': fit starts anew"),
        ({"callbacks": "disable"}, ValueError, "validation_split=None"),
        ({"optimiser": None}, ValueError, "'optimiser' is unknown. Did you mean 'optimizer'"),
        ({"optimiser__momentum": 0.5}, ValueError, "optimiser__momentum"),
        ({"module__widht": 3}, TypeError, "MLPAutoencoder has no parameter 'widht'"),
    ],
)
def test_net_params_that_cannot_be(params, error, message):
    with pytest.raises(error, match=message):
        quick(net_params=params).fit(X)


# -- errors that name the value and the fix


def _with(value, column=3):
    changed = X.copy()
    changed[5, column] = value
    return changed


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_with(np.nan), "contains NaN: column 3, row 5"),
        (_with(-np.inf), "contains infinity: column 3, row 5"),
        (_with(1e300), "1e.300, too large for the network's float32"),
        (X[:, :9], "X has 9 features, but Autoencoder is expecting 10 features"),
        (X[:, :, None], r"X has shape \(n, 10, 1\), but Autoencoder was fitted on \(n, 10\)"),
        (X[0], "Expected 2D array, got 1D array"),
        (X[:0], "0 sample"),
        (np.full((3, 10), "a", dtype=object), "column 0 is not numeric"),
    ],
)
def test_data_that_cannot_be_transformed(data, message):
    with pytest.raises(ValueError, match=message):
        quick().fit(X).transform(data)


def test_wrong_axes_of_series_are_named():
    estimator = quick("conv1d").fit(np.zeros((4, 2, 9)))
    with pytest.raises(ValueError, match=r"shape \(n, 2, 8\), but .* fitted on \(n, 2, 9\)"):
        estimator.transform(np.zeros((4, 2, 8)))
    with pytest.raises(ValueError, match="module='lstm' takes series .* use module='mlp'"):
        quick("lstm").fit(np.zeros((4, 1, 8, 8)))


def test_codes_that_cannot_be_decoded():
    estimator = quick().fit(X)
    with pytest.raises(ValueError, match=r"Z has shape \(n, 3\).*n_components=2"):
        estimator.inverse_transform(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="Input Z contains NaN"):
        estimator.inverse_transform(np.full((4, 2), np.nan))


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"module": "mpl"}, ValueError, "Did you mean 'mlp'"),
        ({"module": nn.Linear(2, 2)}, TypeError, "pass the class Linear itself"),
        ({"module": nn.ReLU}, TypeError, "ReLU has no encoder"),
        ({"pretext": "denoise"}, ValueError, "Got 'denoise' instead. Did you mean"),
        ({"loss": "squared"}, ValueError, "'loss' parameter .* Got 'squared'"),
        ({"n_components": 0}, ValueError, "'n_components' parameter of Autoencoder"),
        ({"validation_split": 1.5}, ValueError, "'validation_split' parameter"),
        ({"mask_rate": 1.0}, ValueError, "'mask_rate' parameter"),
        ({"lr": 1e6, "max_epochs": 20}, ValueError, "Training diverged.*StandardScaler.*lr="),
    ],
)
def test_parameters_that_cannot_be(params, error, message):
    sgd = {"optimizer": torch.optim.SGD} if "lr" in params else None
    with pytest.raises(error, match=message):
        quick(**params, net_params=sgd).fit(X)


def test_a_column_that_float32_cannot_tell_apart():
    seconds = np.column_stack([X[:, 0], 1.7e9 + 20 * X[:, 1]])
    with pytest.warns(DataConversionWarning, match="Column 1 .* StandardScaler"):
        quick(max_epochs=1, lr=1e-12).fit(seconds)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_pipeline(StandardScaler(), quick()).fit(seconds).transform(seconds[:1])


def test_single_samples_do_not_warn():
    estimator = quick().fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimator.transform(X[:1])


@pytest.mark.parametrize("kind", ["frame", "array"])
def test_read_only_float32_data(kind):
    # torch warns of arrays that it could not write to; a warning fails the test.
    X = np.random.RandomState(0).normal(size=(20, 4)).astype(np.float32)
    given = pd.DataFrame(X, columns=list("abcd")) if kind == "frame" else X.copy()
    if kind == "array":
        given.flags.writeable = False
    estimator = Autoencoder(
        n_components=2, hidden_layer_sizes=(4,), max_epochs=1, validation_split=None, random_state=0
    )
    Z = estimator.fit(given).transform(given)
    assert estimator.inverse_transform(Z).shape == X.shape
    assert np.isfinite(estimator.score(given))
    np.testing.assert_array_equal(Z, estimator.fit(X).transform(X))


def test_the_score_does_not_round_where_samples_have_a_large_mean():
    rows = (3000 + np.random.default_rng(0).normal(size=(30_000, 2))).astype(np.float32)
    params = {"n_components": 2, "hidden_layer_sizes": (), "random_state": 0}
    net = Autoencoder(**params).initialize(rows[:5])
    weights = net.net_.module_.state_dict()
    net.load_state_dict(
        {k: torch.eye(2) if v.ndim == 2 else torch.full_like(v, 0.1) for k, v in weights.items()}
    )
    rebuilt = net.inverse_transform(net.transform(rows)).astype(np.float64)
    errors = np.square(rebuilt - rows).sum()
    total = np.square(rows - rows.astype(np.float64).mean(axis=0)).sum()
    assert net.score(rows) == pytest.approx(1 - errors / total, abs=1e-9)


def test_rows_in_reverse():
    rows = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    for estimator in (Autoencoder, VariationalAutoencoder, ContrastiveEncoder):
        net = estimator(n_components=2, hidden_layer_sizes=(4,), max_epochs=1, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            codes = net.fit(rows[::-1]).transform(rows)
            same = clone(net).fit(rows[::-1].copy()).transform(rows)
        np.testing.assert_array_equal(codes, same)


def test_labels_that_are_missing_have_an_error():
    rows = np.random.default_rng(0).normal(size=(8, 3))
    labels = np.array(["a", None] * 4, dtype=object)
    with pytest.raises(ValueError, match="y .*None"):
        Autoencoder(lambda_class=1.0, max_epochs=1).fit(rows, labels)


def test_a_class_head_that_was_not_fitted():
    rows = np.random.default_rng(0).normal(size=(20, 3))
    net = Autoencoder(max_epochs=1, validation_split=None, random_state=0).fit(rows)
    net.set_params(lambda_class=1.0)
    assert not hasattr(net, "predict")
    with pytest.raises(AttributeError) as error:
        net.predict(rows)
    assert "was fitted without a class head" in str(error.value.__cause__)
    assert "Call fit(X, y)" in str(error.value.__cause__)
