import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline

from sklexplain.report._models import InputError, is_of_sklearn, load_model

X = np.random.default_rng(0).normal(size=(40, 4))
y = (X[:, 0] > 0).astype(int)

FITTED = [
    RandomForestClassifier(3, random_state=0),
    HistGradientBoostingClassifier(max_iter=2),
    KNeighborsClassifier(),
    GaussianProcessClassifier(),
    CalibratedClassifierCV(LogisticRegression(), cv=2),
    MLPClassifier((3,), tol=0.1, random_state=0),
    make_pipeline(SelectKBest(f_classif, k=2), LogisticRegression()),
]


@pytest.mark.parametrize("estimator", FITTED, ids=lambda e: type(e).__name__)
def test_types_of_scikit_learn_are_trusted(tmp_path, estimator):
    skops_io = pytest.importorskip("skops.io")
    skops_io.dump(estimator.fit(X, y), tmp_path / "model.skops")
    loaded = load_model(tmp_path / "model.skops")
    np.testing.assert_allclose(loaded.predict_proba(X), estimator.predict_proba(X))


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "sklearn.os",
        "sklearn.datasets._base.load_files",
        "sklearn.utils._testing.TempMemmap",
        "sklearn.utils.fixes.os",
        "sklearn.tree._export.export_text",  # a function
        "sklearn.ensemble._forest.Path",
        "sklearn.ensemble._base.clone",
        "sklearn.tree.tests.test_tree.Real",
        "sklearn.cluster._nothing.X",
        "sklearn.ensemble._forest.threading",
        "sklearn.ensemble._forest.DataConversionWarning.__class__",
        "sklearn",
        "",
    ],
)
def test_other_names_are_not(name):
    assert not is_of_sklearn(name)


def test_what_is_not_trusted_is_named(tmp_path):
    skops_io = pytest.importorskip("skops.io")
    from sklearn.preprocessing import FunctionTransformer

    skops_io.dump(FunctionTransformer(np.savetxt), tmp_path / "model.skops")
    with pytest.raises(InputError, match="--trust numpy.savetxt"):
        load_model(tmp_path / "model.skops")
