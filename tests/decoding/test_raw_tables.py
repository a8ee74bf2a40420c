"""ClaDec of black boxes that take text, categories and missing values as they are."""

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline

from sklexplain import ClaDecExplainer
from sklexplain.exceptions import FewValuesWarning

N = 80
RNG = np.random.RandomState(0)
FRAME = pd.DataFrame(
    {
        "id": [f"p{i}" for i in range(N)],
        "age": np.where(RNG.rand(N) < 0.1, np.nan, RNG.normal(60, 10, N)),
        "site": pd.Categorical(list("abcd") * (N // 4)),
    }
)
Y = FRAME["site"].isin(["a", "b"]).to_numpy().astype(int)


@pytest.fixture(scope="module")
def explainer():
    columns = make_column_transformer(("passthrough", ["age", "site"]))
    boosting = HistGradientBoostingClassifier(categorical_features="from_dtype", max_iter=20)
    model = make_pipeline(columns.set_output(transform="pandas"), boosting).fit(FRAME, Y)
    explainer = ClaDecExplainer(model, reference=None, max_epochs=150, random_state=0)
    with pytest.warns(FewValuesWarning, match="only 2 different values"):
        return explainer.fit(FRAME)


def test_reconstructions_have_a_column_for_every_category(explainer):
    reconstructions = explainer.transform(FRAME)
    names = explainer.get_feature_names_out().tolist()
    assert names == ["age", "site=a", "site=b", "site=c", "site=d"]
    assert reconstructions.shape == (N, 5) and np.isfinite(reconstructions).all()
    # The model tells a and b from c and d, and nothing else.
    groups = reconstructions[:, 1:3].sum(axis=1) > 0.5
    np.testing.assert_array_equal(groups, Y == 1)
    np.testing.assert_allclose(reconstructions[:, 0].mean(), FRAME["age"].mean(), atol=3)


def test_score_asks_the_model_about_rebuilt_cells(explainer):
    agreement, reconstruction = explainer.score_parts(FRAME)
    best = explainer.transform(FRAME)[:, 1:].argmax(axis=1)
    cells = FRAME.assign(
        age=explainer.transform(FRAME)[:, 0],
        site=pd.Categorical(np.array(list("abcd"))[best], categories=list("abcd")),
    )
    model = explainer.estimator_
    assert agreement == np.mean(model.predict(cells) == model.predict(FRAME))
    assert agreement > 0.9 and 0 < reconstruction < 1


def test_explanations_are_in_the_same_columns(explainer):
    explanation = explainer.explain(FRAME.iloc[:3])
    assert explanation.input.shape == explanation.reconstruction.shape == (3, 5)
    assert explanation.input[:, 1:].tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    assert explainer.reconstruction_loss(FRAME).shape == (N,)
