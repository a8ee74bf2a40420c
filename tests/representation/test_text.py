"""Texts, one a sample, explained by words."""

import itertools
import math

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

from sklexplain import DKNNImportance, LabelFreeAttributor

TEXTS = pd.Series(["good day for all", "bad night", "good night all", "very bad day"] * 4)
Y = np.array([1, 0, 1, 0] * 4)
WORDS = ["all", "bad", "day", "for", "good", "night", "very"]


def removed(text, words):
    return " ".join(w for w in text.split() if w not in words)


@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(CountVectorizer(), LogisticRegression()),
        make_pipeline(
            CountVectorizer(), TruncatedSVD(2), RandomForestClassifier(5, random_state=0)
        ),
    ],
    ids=["torch", "black box"],
)
def test_ablation_is_what_removing_a_word_does(model):
    explainer = LabelFreeAttributor(model, method="feature_ablation", baseline="zeros")
    maps = explainer.set_output(transform="pandas").fit(TEXTS, Y).transform(TEXTS[:4])
    assert maps.columns.tolist() == WORDS and explainer.n_features_in_ == 7
    predict = explainer.estimator_.predict_proba
    for i, text in enumerate(TEXTS[:4]):
        code = predict([text])[0]
        expected = [code @ (code - predict([removed(text, [w])])[0]) for w in WORDS]
        np.testing.assert_allclose(maps.iloc[i], expected, atol=1e-12)


def test_gradients_reach_the_words():
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(TEXTS, Y)
    explainer = LabelFreeAttributor(model, baseline="zeros").fit(TEXTS)
    code = model.predict_proba(TEXTS)
    base = model.predict_proba([""])
    expected = (code * (code - base)).sum(axis=1)
    np.testing.assert_allclose(explainer.transform(TEXTS).sum(axis=1), expected, atol=1e-6)
    assert explainer.score(TEXTS) > 1


@pytest.mark.parametrize("container", [list, np.array, pl.Series, tuple])
def test_containers_of_texts(container):
    model = make_pipeline(
        make_union(CountVectorizer(), TfidfVectorizer()), TruncatedSVD(2, random_state=0)
    )
    expected = DKNNImportance(model).fit(TEXTS).transform(TEXTS)
    given = container(TEXTS.tolist())
    np.testing.assert_array_equal(DKNNImportance(model).fit(given).transform(given), expected)


def test_what_cannot_be_explained_is_named():
    with pytest.raises(TypeError, match="HashingVectorizer does not remember which word"):
        LabelFreeAttributor(make_pipeline(HashingVectorizer(), LogisticRegression())).fit(TEXTS, Y)


def test_counts_for_a_vectoriser_that_does_not_know_its_words_are_refused():
    model = make_pipeline(HashingVectorizer(), LogisticRegression()).fit(TEXTS, Y)
    with pytest.raises(TypeError, match="HashingVectorizer does not remember which word"):
        LabelFreeAttributor(model).fit(np.zeros((5, 4)))
    with pytest.raises(ValueError, match="X holds texts, one a sample; put a vectoriser"):
        LabelFreeAttributor(LogisticRegression()).fit(TEXTS, Y)
    model = make_pipeline(CountVectorizer(), LogisticRegression())
    explainer = LabelFreeAttributor(model).fit(TEXTS, Y)
    with pytest.raises(ValueError, match="sample 1 of X is None where others are texts"):
        explainer.transform(["good", None])
    with pytest.raises(ValueError, match="X must hold texts, one a sample"):
        explainer.transform(np.zeros((2, 7)))


def test_too_many_words(monkeypatch):
    monkeypatch.setattr("sklexplain.representation._text._MOST_BYTES", 500)
    model = make_pipeline(CountVectorizer(), LogisticRegression()).fit(TEXTS, Y)
    with pytest.raises(ValueError, match="16 texts of 7 words would take .* max_features"):
        LabelFreeAttributor(model).fit(TEXTS)


def test_kernel_shap_plays_with_the_words_of_a_text_only():
    vocabulary = TEXTS.tolist() + [f"word{i}" for i in range(60)]
    model = make_pipeline(TfidfVectorizer(), LogisticRegression())
    explainer = LabelFreeAttributor(
        model, method="kernel_shap", baseline="zeros", random_state=0
    ).fit(pd.Series(vocabulary), np.arange(len(vocabulary)) % 2)
    names = explainer.get_feature_names_out().tolist()
    vectors = explainer.estimator_[0].transform(TEXTS[:4]).toarray()
    maps = explainer.transform(TEXTS[:4])
    predict = explainer.estimator_[1].predict_proba
    for text, vector, found in zip(TEXTS[:4], vectors, maps, strict=True):
        words = [names.index(w) for w in text.split()]
        assert set(np.flatnonzero(found)) <= set(words)
        code = predict(vector[None])[0]
        expected = np.zeros(len(names))
        for order in itertools.permutations(words):  # Shapley values of the words
            row = np.zeros(len(names))
            before = predict(row[None])[0] @ code
            for word in order:
                row[word] = vector[word]
                after = predict(row[None])[0] @ code
                expected[word] += (after - before) / math.factorial(len(words))
                before = after
        np.testing.assert_allclose(found, expected, atol=1e-7)
