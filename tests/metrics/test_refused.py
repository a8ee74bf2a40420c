"""Arguments that would make a measure say something of nothing."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from sklexplain import ClaDecExplainer, LabelFreeAttributor
from sklexplain.metrics import evaluation_accuracy, locality, similarity_rate

RNG = np.random.default_rng(0)
MAPS = RNG.normal(size=(6, 3, 4))
X = RNG.normal(size=(30, 4))


@pytest.mark.parametrize("parts", [None, "x", 5, [1], [0, 0, 0, 0], [[2]], {"a": [0, 1, 2, 3]}])
def test_locality_in_one_part(parts):
    with pytest.raises((ValueError, TypeError), match="part"):
        locality(MAPS, parts)


def test_locality_in_two_parts_equals_a_loop():
    entropies = []
    for concept in range(3):
        shares = []
        for sample in MAPS:
            m = np.abs(sample[concept])
            shares.append([m[:2].sum() / m.sum(), m[2:].sum() / m.sum()])
        mean = np.mean(shares, axis=0)
        entropies.append(-(mean * np.log(mean)).sum())
    assert locality(MAPS, [0, 0, 1, 1]) == pytest.approx(np.mean(entropies), rel=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, None, np.datetime64("NaT")])
@pytest.mark.parametrize("which", ["y_train", "y_test"])
def test_labels_that_are_missing(bad, which):
    explainer = ClaDecExplainer(
        PCA(2), reference=None, max_epochs=1, validation_split=None, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one epoch is few
        explainer.fit(X)
    y = np.arange(30) % 2
    if isinstance(bad, float):
        broken = y.astype(float)
    elif bad is None:
        broken = y.astype(object)
    else:
        broken = np.array(["2020-01-01", "2021-01-01"], "datetime64[D]")[y]
    broken[7] = bad
    labels = {"y_train": y, "y_test": y, which: broken}
    with pytest.raises(ValueError, match=f"{which} holds .* for sample 7"):
        evaluation_accuracy(explainer, X, labels["y_train"], X, labels["y_test"])


@pytest.mark.parametrize(
    "method", ["feature_ablation", "occlusion", "shapley_sampling", "kernel_shap", "lime"]
)
def test_attributions_too_large_for_their_dtype(method):
    torch.manual_seed(0)
    explainer = LabelFreeAttributor(nn.Linear(4, 3), method=method).fit(X.astype(np.float32))
    with pytest.raises(ValueError, match="of sample 1 are too large for float32"):
        explainer.transform(np.float32([[1] * 4, [1e30] * 4]))


@pytest.mark.parametrize("which", [0, 1])
def test_missing_labels_of_examples(which):
    labels = [np.zeros(2), np.zeros(3)]
    labels[which][1] = np.nan
    with pytest.raises(ValueError, match="contains nan, first at 1"):
        similarity_rate(np.ones((2, 3)), *labels, n_top=1)
