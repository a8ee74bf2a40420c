"""scikit-learn's own checks."""

import pytest
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from sklexplain import ClaDecExplainer

OPTIONS = {"max_epochs": 2, "validation_split": None, "random_state": 0}
ESTIMATORS = [
    ClaDecExplainer(PCA(n_components=1), alpha=0.5, **OPTIONS),
    ClaDecExplainer(
        make_pipeline(StandardScaler(), PCA(n_components=1)), reference="random", **OPTIONS
    ),
]


@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_number_of_scikit_learn_checks(estimator):
    names = [check.func.__name__ for _, check in estimator_checks_generator(estimator)]
    assert len(names) >= 45
    assert {"check_transformer_general", "check_estimators_pickle", "check_set_output"} & set(names)
