"""Texts, one a sample: explained by the words that a vectoriser counts."""

import numpy as np
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils import get_tags

from ._heads import Head, to_dense

_MOST_BYTES = 2**31


def as_texts(X):
    """Return texts, one a sample, as a list; None if X is anything else.

    Parameters
    ----------
    X : object
        What was given as samples.

    Returns
    -------
    texts : list of str or None
    """
    if isinstance(X, (str, bytes, dict)) or hasattr(X, "columns"):
        return None
    if not isinstance(X, (list, tuple)) and len(getattr(X, "shape", ())) != 1:
        return None
    texts = list(X)
    is_text = any(isinstance(text, str) for text in texts)
    return texts if is_text and all(text is None or np.ndim(text) == 0 for text in texts) else None


def vectoriser_of(estimator):
    """Return the step that turns texts into numbers.

    Parameters
    ----------
    estimator : estimator
        A vectoriser, or a Pipeline that begins with one.

    Returns
    -------
    vectoriser : estimator or None
    """
    if isinstance(estimator, Pipeline):
        return vectoriser_of(estimator.steps[0][1]) if estimator.steps else None
    if isinstance(estimator, FeatureUnion):
        steps = [step for _, step in estimator.transformer_list if step not in (None, "drop")]
        return estimator if steps and all(map(vectoriser_of, steps)) else None
    if not hasattr(estimator, "__sklearn_tags__") or not hasattr(estimator, "transform"):
        return None
    tags = get_tags(estimator).input_tags
    return estimator if tags.string and not tags.two_d_array else None


def check_vectoriser(estimator):
    """Raise unless an estimator turns texts into numbers of words.

    Parameters
    ----------
    estimator : estimator
        Fitted or not.

    Raises
    ------
    ValueError
        If no vectoriser comes first.
    TypeError
        If it does not know its words.
    """
    vectoriser = vectoriser_of(estimator)
    if vectoriser is None:
        raise ValueError(
            "X holds texts, one a sample; put a vectoriser (TfidfVectorizer) in a Pipeline in "
            "front of the estimator. Expected 2D array otherwise."
        )
    if not hasattr(vectoriser, "get_feature_names_out"):
        raise TypeError(
            f"{type(vectoriser).__name__} does not remember which word a column counts, so "
            "nothing could be named; use CountVectorizer or TfidfVectorizer."
        )


def checked_texts(X, name):
    """Return samples as a list of texts.

    Parameters
    ----------
    X : object
        What was given as samples.
    name : str
        The explainer's class.

    Returns
    -------
    texts : list of str

    Raises
    ------
    ValueError
        If they are no texts, or naming the first sample that is none.
    """
    texts = as_texts(X)
    if texts is None:
        raise ValueError("X must hold texts, one a sample, as in fit.")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(
                f"sample {i} of X is {text!r} where others are texts; {name} takes one text a "
                "sample, '' for an empty one."
            )
    return texts


class WordsHead(Head):
    """A fitted vectoriser, whose words are the raw columns."""

    def __init__(self, vectoriser):
        check_vectoriser(vectoriser)
        self.words = np.asarray(vectoriser.get_feature_names_out(), dtype=object)
        super().__init__(np.arange(len(self.words)))
        self.vectoriser = vectoriser

    def on_raw_columns(self, X):
        return None, None  # they are what it makes

    def _run(self, texts):
        if not isinstance(texts, list):
            return texts  # rows of counts, as baselines are given
        n_bytes = 8 * len(texts) * len(self.words)
        if n_bytes > _MOST_BYTES:
            raise ValueError(
                f"{len(texts)} texts of {len(self.words)} words would take {n_bytes / 2**30:.1f} "
                "GiB; explain fewer at once, or set the vectoriser's max_features or min_df."
            )
        return self.vectoriser.transform(texts)

    def _run_with_slopes(self, texts):
        counts = to_dense(self._run(texts))
        return counts, np.ones(counts.shape)
