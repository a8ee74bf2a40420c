"""Labels, groups and batches that cannot be trained with are named."""

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from sklexplain import AnomalyAttributor, ClaDecExplainer
from sklexplain.metrics import evaluation_accuracy
from sklexplain.nets import Autoencoder, ContrastiveEncoder, VariationalAutoencoder

pytestmark = pytest.mark.filterwarnings("ignore::sklexplain.exceptions.ConvergenceWarning")

X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
QUICK = {"max_epochs": 1, "hidden_layer_sizes": (), "n_components": 2, "random_state": 0}
MIXED = np.array(["a", 1] * 20, dtype=object)
GAPS = np.array([None, "a"] * 20, dtype=object)


@pytest.mark.parametrize("validation_split", [0.2, GroupKFold(2)])
@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        (MIXED, TypeError, r"groups holds int \(1 for example\) and str \('a' for example\)"),
        (GAPS, ValueError, "groups contains None, first at 0"),
        (pd.Series(GAPS), ValueError, "groups contains nan|groups contains None"),
        (np.array([1.0, np.nan] * 20), ValueError, "groups contains nan, first at 1"),
    ],
)
def test_groups_of_nothing_and_of_several_types(groups, error, message, validation_split):
    with pytest.raises(error, match=message):
        Autoencoder(validation_split=validation_split, **QUICK).fit(X, groups=groups)
    with pytest.raises(error, match=message):
        AnomalyAttributor(PCA(2), random_state=0).fit(X, groups=groups)


def test_classes_of_several_types():
    message = r"holds int \(1 for example\) and str .*which cannot be put in order; give all of"
    with pytest.raises(TypeError, match=f"y {message}"):
        Autoencoder(lambda_class=1.0, **QUICK).fit(X, MIXED)
    explainer = ClaDecExplainer(PCA(2), reference=None, max_epochs=1, random_state=0).fit(X)
    with pytest.raises(TypeError, match=f"y_train {message}"):
        evaluation_accuracy(explainer, X, MIXED, X, MIXED, classifier=LogisticRegression())


@pytest.mark.parametrize(
    ("dtype", "kind", "classes"),
    [
        ("Int64", np.int64, [0, 1]),
        ("UInt8", np.uint8, [0, 1]),
        ("boolean", bool, [False, True]),
        ("Float32", np.float32, [0, 1]),
        ("category", np.int64, [0, 1]),
    ],
)
@pytest.mark.parametrize("holding", [pd.Series, pd.DataFrame])
def test_classes_keep_their_type(dtype, kind, classes, holding):
    values = np.arange(40) % 2
    y = pd.Series(values == 1 if dtype == "boolean" else values).astype(dtype)
    estimator = Autoencoder(lambda_class=1.0, **QUICK)
    if holding is pd.DataFrame:
        with pytest.warns(UserWarning, match="A column-vector y was passed"):
            estimator.fit(X, y.to_frame())
    else:
        estimator.fit(X, y)
    assert estimator.classes_.dtype == kind and estimator.classes_.tolist() == classes
    assert estimator.predict(X).dtype == kind
    assert estimator.score(X, y) == np.mean(estimator.predict(X) == np.asarray(y))


@pytest.mark.parametrize("learner", [Autoencoder, VariationalAutoencoder, ContrastiveEncoder])
@pytest.mark.parametrize(
    ("part", "net_params", "n"),
    [
        ("train", {}, 32),
        ("train", {"iterator_train__batch_size": 33}, 32),
        ("valid", {}, 8),
    ],
)
def test_no_whole_batch(learner, part, net_params, n):
    net_params = net_params | {f"iterator_{part}__drop_last": True}
    name = "training" if part == "train" else "validation"
    with pytest.raises(ValueError, match=f"the {n} samples of the {name} part are fewer than"):
        learner(validation_split=0.2, batch_size=64, net_params=net_params, **QUICK).fit(X)
    # A whole one is enough.
    enough = {"iterator_train__drop_last": True}
    fitted = learner(validation_split=0.2, batch_size=32, net_params=enough, **QUICK).fit(X)
    assert len(fitted.loss_curve_) == 1
