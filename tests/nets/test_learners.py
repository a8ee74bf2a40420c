"""What `Autoencoder` promises holds for the other learners, too."""

import copy
import io
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, GroupShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklexplain.datasets import make_relevant_columns
from sklexplain.nets import CheckpointHistory, ContrastiveEncoder, VariationalAutoencoder
from sklexplain.report import load_model

X, Y, _ = make_relevant_columns(60, random_state=0)  # (60, 10), two factors
LEARNERS = [VariationalAutoencoder, ContrastiveEncoder]


def quick(learner, module="mlp", **params):
    """Make one that trains in a few milliseconds."""
    defaults = {
        "n_components": 2,
        "hidden_layer_sizes": (8,),
        "max_epochs": 2,
        "validation_split": None,
        "random_state": 0,
    }
    return learner(module, **(defaults | params))


class ImageEncoder(nn.Module):
    """A network of a user: convolutions with BatchNorm, and an argument of its own."""

    def __init__(self, n_components, input_shape, width=4):
        super().__init__()
        channels, height, _ = input_shape
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, width, 3, 2, 1),
            nn.BatchNorm2d(width),
            nn.Flatten(),
            nn.Linear(width * (height // 2) ** 2, n_components),
        )
        self.decoder = nn.Sequential(
            nn.Linear(n_components, width * (height // 2) ** 2),
            nn.Unflatten(1, (width, height // 2, height // 2)),
            nn.ConvTranspose2d(width, channels, 2, 2),
        )


def by_skops(estimator, tmp_path):
    path = tmp_path / "model.skops"
    skops.io.dump(estimator, path)
    return load_model(path)  # which trusts nets by their names, and nothing else


def by_joblib(estimator, tmp_path):
    file = io.BytesIO()
    joblib.dump(estimator, file)
    file.seek(0)
    return joblib.load(file)


def by_state_dict(estimator, tmp_path):
    torch.save(estimator.net_.module_.state_dict(), tmp_path / "weights.pt")
    weights = torch.load(tmp_path / "weights.pt", weights_only=True)
    return clone(estimator).set_params(random_state=7).initialize(X[:1]).load_state_dict(weights)


SAVE = {
    "skops": by_skops,
    "joblib": by_joblib,
    "pickle": lambda estimator, tmp_path: pickle.loads(pickle.dumps(estimator)),
    "deepcopy": lambda estimator, tmp_path: copy.deepcopy(estimator),
    "state_dict": by_state_dict,
}


@pytest.mark.parametrize("save", SAVE.values(), ids=SAVE)
@pytest.mark.parametrize("module", ["mlp", "lstm"])
@pytest.mark.parametrize("learner", LEARNERS)
def test_saved_and_loaded(learner, module, save, tmp_path):
    estimator = quick(learner, module, max_epochs=1).fit(X)
    loaded = save(estimator, tmp_path)
    np.testing.assert_array_equal(loaded.transform(X), estimator.transform(X))
    assert loaded.score(X) == estimator.score(X)
    assert not loaded.net_.module_.training
    assert b"pickle" not in str(estimator.net_.__getstate__().keys()).encode()


@pytest.mark.parametrize("learner", LEARNERS)
def test_random_state_is_all_the_randomness(learner):
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()
    estimator = quick(learner, validation_split=0.3, patience=5)
    with pytest.warns(ConvergenceWarning, match="max_epochs=2"):
        first = estimator.fit(X).transform(X)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)
    assert torch.equal(torch.get_rng_state(), torch_state)
    torch.randn(5)
    with pytest.warns(ConvergenceWarning):
        np.testing.assert_array_equal(clone(estimator).fit(X).transform(X), first)
    torch.set_rng_state(torch_state)
    other = quick(learner, random_state=None).fit(X).transform(X)
    assert not np.array_equal(other, quick(learner, random_state=None).fit(X).transform(X))


@pytest.mark.parametrize("learner", LEARNERS)
def test_frames_pipelines_and_searches(learner):
    frame = pd.DataFrame(X, columns=[f"c{i}" for i in range(10)])
    estimator = quick(learner).set_output(transform="pandas").fit(frame)
    name = learner.__name__.lower()
    assert list(estimator.transform(frame).columns) == [f"{name}0", f"{name}1"]
    with pytest.raises(ValueError, match="feature names"):
        estimator.transform(frame[frame.columns[::-1]])
    grid = {f"{name}__n_components": [1, 2]}
    grid |= {f"{name}__beta": [1.0, 4.0]} if learner is VariationalAutoencoder else {}
    search = GridSearchCV(make_pipeline(StandardScaler(), quick(learner)), grid, cv=2).fit(frame)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_users_module_with_batch_statistics(learner):
    images = np.random.RandomState(0).rand(20, 1, 4, 4) * 5
    estimator = quick(learner, ImageEncoder, net_params={"module__width": 3}).fit(images)
    Z = estimator.transform(images)
    estimator.net_.module_.train()
    buffers = copy.deepcopy(dict(estimator.net_.module_.named_buffers()))
    np.testing.assert_array_equal(estimator.transform(images), Z)
    estimator.score(images)
    for name, buffer in estimator.net_.module_.named_buffers():
        assert torch.equal(buffer, buffers[name])
    assert estimator.net_.module_.training


@pytest.mark.parametrize("learner", LEARNERS)
def test_callbacks_groups_and_verbose(learner, capsys):
    history = CheckpointHistory(every=1)
    split = GroupShuffleSplit(n_splits=1, test_size=0.3)
    params = {"validation_split": split, "patience": 5, "verbose": 1}
    with pytest.warns(ConvergenceWarning):
        quick(learner, net_params={"callbacks": [history]}, **params).fit(
            X, groups=np.repeat(np.arange(6), 10)
        )
    assert history.epochs_ == [1, 2]
    assert "train_loss" in capsys.readouterr().out


@pytest.mark.parametrize("learner", LEARNERS)
def test_initialize_is_not_fitted(learner):
    estimator = quick(learner).initialize(X)
    for method in ("transform", "score"):
        with pytest.raises(NotFittedError):
            getattr(estimator, method)(X)
    with pytest.raises(ValueError, match=f"weights are not those of this {learner.__name__}"):
        other = quick(learner, n_components=3).initialize(X)
        estimator.load_state_dict(other.net_.module_.state_dict())


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"module": nn.ReLU}, "ReLU has no encoder"),
        ({"net_params": {"optimiser": None}}, "Did you mean 'optimizer'"),
    ],
)
@pytest.mark.parametrize("learner", LEARNERS)
def test_parameters_that_cannot_be(learner, params, message):
    with pytest.raises((ValueError, TypeError), match=message):
        quick(learner, **params).fit(X)


def test_diverging_training_is_an_error():
    sgd = {"optimizer": torch.optim.SGD}
    with pytest.raises(ValueError, match="Training diverged.*StandardScaler.*lr="):
        quick(VariationalAutoencoder, lr=1e6, max_epochs=20, net_params=sgd).fit(X * 1000)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("learner", LEARNERS)
def test_on_a_gpu(learner):
    on_gpu = quick(learner, device="cuda").fit(X)
    assert next(on_gpu.net_.module_.parameters()).device.type == "cuda"
    on_cpu = copy.deepcopy(on_gpu)
    on_cpu.net_.set_params(device="cpu")
    np.testing.assert_allclose(on_gpu.transform(X), on_cpu.transform(X), rtol=1e-3, atol=1e-4)
    assert np.isfinite(on_gpu.score(X))
