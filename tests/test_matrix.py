"""Every estimator of scikit-learn that fits a small table, explained in three ways.

Shapley values sum to the change of the estimator's own output, neighbours are those of its own
output, reconstructions have the shape of X. What cannot be explained is refused in one of a few
ways, each only for the estimators that it is about.
"""

import re
from functools import cache

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_regressor
from sklearn.utils import all_estimators
from sklearn.utils._test_common.instance_generator import _construct_instances

from sklexplain import ClaDecExplainer, DKNNImportance, LabelFreeAttributor
from sklexplain.exceptions import ConvergenceWarning

from . import oracles

pytestmark = pytest.mark.filterwarnings(
    "ignore", "error:.*does not give a sample the same output every time:UserWarning"
)

RNG = np.random.RandomState(0)
CLASSES = np.arange(60) % 3
# Positive, which some estimators ask for.
X = np.abs(RNG.normal(size=(60, 4)) + CLASSES[:, None] * [1, 0.5, 0, 0]) + 1
VALUES = X[:, 0] + 0.1 * RNG.uniform(size=60)
TARGETS = {
    False: (CLASSES, (CLASSES > 0).astype(int), np.column_stack([CLASSES > 0, CLASSES > 1]) * 1),
    True: (VALUES, np.column_stack([VALUES, X[:, 1]])),
}

# They take labels, text, dicts, images, square matrices, one column, or a fitted estimator.
NO_TABLES = {
    "CountVectorizer",
    "DictVectorizer",
    "FeatureHasher",
    "FrozenEstimator",
    "HashingVectorizer",
    "IsotonicRegression",
    "KernelCenterer",
    "LabelBinarizer",
    "LabelEncoder",
    "MultiLabelBinarizer",
    "PatchExtractor",
    "SparseCoder",
    "TfidfVectorizer",
}


def make(cls):
    """Instances as scikit-learn's own tests make them."""
    try:
        made = list(_construct_instances(cls))
    except Exception:
        return []
    for estimator in made:
        if "random_state" in estimator.get_params():
            estimator.set_params(random_state=0)
    return made


CASES = {
    f"{name}-{i}": estimator
    for name, cls in all_estimators()
    for i, estimator in enumerate(make(cls))
}


@cache
def fitted(name):
    """Return the fitted estimator and its targets; None if it does not take the table."""
    for y in TARGETS[is_regressor(CASES[name])]:
        try:
            estimator = clone(CASES[name]).fit(X, y)
            if oracles.output_method(estimator):
                oracles.output(estimator, X)
            return estimator, y
        except Exception:
            continue
    return None


def has_no_output(estimator):
    return oracles.output_method(estimator) is None


def has_no_numbers(estimator):
    return oracles.output(estimator, X).size == 0


def is_one_of(*names):
    return lambda estimator: type(estimator).__name__ in names


def is_anything(estimator):
    return True


# What is said: (pattern, explainers, which estimators it may be said of).
MESSAGES = [
    ("offers neither|offers only predict", "label_free dknn cladec", has_no_output),
    # Selectors that select nothing, an indicator of gaps where there are none.
    ("returns no numbers", "label_free dknn cladec", has_no_numbers),
    # With voting="hard" it returns each classifier's label.
    ("returns labels", "label_free dknn cladec", is_one_of("VotingClassifier")),
    # A layer that ClaDec decodes: scalers and selectors have none.
    ("has no linear layer; ", "cladec", is_anything),
    # Points between a sample and the mean are no samples that these know.
    ("Found unknown categories", "label_free", is_one_of("OneHotEncoder", "OrdinalEncoder")),
    ("No neighbors found", "label_free", is_one_of("RadiusNeighborsClassifier")),
    ("not finite", "label_free", is_one_of("RadiusNeighborsRegressor")),
    # Its probabilities are drawn at random, whatever the sample: a warning.
    ("not give a sample the same output", "label_free", is_one_of("DummyClassifier")),
]


def is_listed(error, explainer, estimator):
    return any(
        re.search(pattern, str(error)) and explainer in explainers.split() and about(estimator)
        for pattern, explainers, about in MESSAGES
    )


def label_free(name):
    estimator, _ = fitted(name)
    attributor = LabelFreeAttributor(
        estimator, method="shapley_sampling", method_params={"n_samples": 2}, random_state=0
    ).fit(X)
    # An encoder's mean is that of its output: the mean row has categories that it does not know.
    is_encoder = attributor._representation.head is not None
    oracles.check_sums(attributor, estimator, X[:5], X if is_encoder else X.mean(0, keepdims=True))


def dknn(name):
    # Fitted by the explainer, on a frame.
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    explainer = DKNNImportance(CASES[name], n_neighbors=4, random_state=0)
    explainer.fit(frame, fitted(name)[1])
    oracles.check_neighbours(explainer, explainer.estimator_, frame, frame[:5], 4)


def cladec(name):
    explainer = ClaDecExplainer(fitted(name)[0], reference=None, max_epochs=2, random_state=0)
    explainer.fit(X)
    head = explainer._representation.head  # of an encoder, the output is rebuilt
    oracles.check_reconstructions(explainer, X[:5], (5, 4 if head is None else len(head.columns)))


@pytest.mark.parametrize("explain", [label_free, dknn, cladec])
@pytest.mark.parametrize("name", CASES)
def test_right_or_refused(name, explain):
    if fitted(name) is None:
        return
    try:
        explain(name)
    except (TypeError, ValueError, ConvergenceWarning) as error:
        if not is_listed(error, explain.__name__, fitted(name)[0]):
            raise


def test_what_takes_no_table():
    names = {name for name, _ in all_estimators()}
    explained = {name.split("-")[0] for name in CASES if fitted(name) is not None}
    assert names - explained <= NO_TABLES
    assert len(explained) >= 190
