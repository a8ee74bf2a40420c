"""Like these samples and unlike those: what is explained of a corpus and a foil."""

import numpy as np
import torch

from ..utils import ARRAY, MAPPING, NONE, Choice, Is, check_labels

SIMILARITIES = ("dot", "cosine")
REST = "rest"


class _Corpus(Is):
    """An array of samples."""

    def __init__(self):
        super().__init__("an array-like of samples", ARRAY.is_satisfied_by)

    def hint(self, value):
        """Say how the samples of a class are named."""
        if not isinstance(value, str):
            return ""
        return f" Fitted samples of a class are corpus={{'label': {value!r}}}."


CORPUS = [_Corpus(), MAPPING, NONE]
FOIL = [Choice(REST), ARRAY, MAPPING, NONE]


def check_contrast(corpus, foil, similarity, center):
    """Check what a corpus, a foil and a similarity may be together.

    Parameters
    ----------
    corpus, foil : array-like, dict, str or None
        Samples, or labels of fitted samples.
    similarity : str
        One of `SIMILARITIES`.
    center : bool
        Whether representations are to be centred.

    Raises
    ------
    ValueError
        If one has no meaning with the others.
    """
    if corpus is None:
        if foil is not None:
            raise ValueError("foil is given without corpus: what should samples be like?")
        if similarity != "dot":
            raise ValueError(
                f"similarity={similarity!r} needs a corpus: a sample's cosine with itself is 1, "
                "whatever its features are."
            )
        return
    for name, value in (("corpus", corpus), ("foil", foil)):
        if isinstance(value, dict) and set(value) != {"label"}:
            raise ValueError(f"{name}={value!r} must have the key 'label', and no other.")
    if isinstance(foil, str) and not isinstance(corpus, dict):
        raise ValueError(
            "foil='rest' is the fitted samples that have other labels than the corpus, so "
            "corpus must be {'label': …}."
        )
    if center:
        raise ValueError(
            "center=True has no meaning with a corpus: a foil is what the corpus is compared with."
        )


def labelled(corpus, foil, y, n_samples):
    """Find the fitted samples that labels stand for.

    Parameters
    ----------
    corpus, foil : array-like, dict, str or None
        See `check_contrast`.
    y : array-like of shape (n_samples,) or None
        Labels of the fitted samples.
    n_samples : int
        How many there are.

    Returns
    -------
    corpus_rows, foil_rows : ndarray of bool of shape (n_samples,) or None
        None where no labels are given.

    Raises
    ------
    ValueError
        If y is missing or is not of one label a sample, or no sample has a label.
    """
    by_label = [isinstance(value, dict) for value in (corpus, foil)]
    if not any(by_label):
        return None, None
    if y is None:
        raise ValueError(
            "corpus and foil name labels, so fit needs y: the class, or the cluster, of every "
            "sample of X."
        )
    y = np.asarray(y)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.shape != (n_samples,):
        raise ValueError(
            f"y has shape {y.shape}, but corpus and foil need one label for each of the "
            f"{n_samples} samples."
        )
    y = check_labels("y", y)
    found = [
        _carrying(name, value["label"], y) if named else None
        for name, value, named in zip(("corpus", "foil"), (corpus, foil), by_label, strict=True)
    ]
    if isinstance(foil, str):
        found[1] = ~found[0]
        if not found[1].any():
            raise ValueError("foil='rest' is empty: every fitted sample has a label of the corpus.")
    elif all(by_label) and (found[0] & found[1]).any():
        both = y[found[0] & found[1]].tolist()[0]
        raise ValueError(f"label {both!r} is in corpus and in foil, where it cancels.")
    return found


def _carrying(name, labels, y):
    """Say which samples have one of some labels."""
    if isinstance(labels, (list, tuple, set, frozenset)):  # numpy makes text of 1 beside "a"
        labels = [getattr(label, "item", lambda label=label: label)() for label in labels]
    else:
        labels = np.ravel(np.asarray(labels)).tolist()
    known = np.unique(y.astype(str)) if y.dtype.kind == "O" else np.unique(y)
    if not labels:
        raise ValueError(f"{name} names no label.")
    rows = np.zeros(len(y), dtype=bool)
    for label in labels:
        of_label = np.array([one == label for one in y.tolist()], dtype=bool)
        if not of_label.any():
            shown = ", ".join(map(str, known[:10])) + (", …" if len(known) > 10 else "")
            raise ValueError(f"no sample has {name}'s label {label!r}; y holds {shown}.")
        rows |= of_label
    return rows


def unit_length(z):
    """Scale representations (n, N) to unit length; 0 stays 0."""
    lengths = torch.linalg.vector_norm(z, dim=1, keepdim=True)
    some = lengths > 0
    return torch.where(some, z / torch.where(some, lengths, 1.0), 0.0)


class Contrast:
    r"""The function :math:`\langle u, h(f(x)) \rangle` that a corpus and a foil make.

    h is the identity for dot products and scales to unit length for cosines, of which a
    representation of 0 has the cosine 0; u is the mean of h over the corpus, minus that over the
    foil. Both similarities are linear in h, so that the cost does not grow with the corpus.

    Parameters
    ----------
    similarity : str
        One of `SIMILARITIES`.
    units : ndarray of int
        Latent units that count.
    """

    def __init__(self, similarity, units):
        self.similarity, self.units = similarity, units

    def fit(self, corpus, foil):
        """Take means over representations.

        Parameters
        ----------
        corpus : ndarray of shape (n_corpus, N)
            Representations.
        foil : ndarray of shape (n_foil, N) or None
            Representations.

        Returns
        -------
        self : Contrast

        Raises
        ------
        ValueError
            If the two are alike, which leaves nothing to explain.
        """
        means = [self._mean(z) for z in (corpus, foil) if z is not None]
        self.direction = means[0] - (means[1] if len(means) > 1 else 0.0)
        size = max(np.abs(mean).max() for mean in means)
        if np.abs(self.direction).max() <= 16 * np.finfo(corpus.dtype).eps * size:
            what = "corpus and foil have the same" if len(means) > 1 else "the corpus has a zero"
            raise ValueError(f"{what} mean representation, so there is nothing to explain.")
        return self

    def _mean(self, z):
        z = torch.from_numpy(np.asarray(z, dtype=np.float64))
        return self.scaled(z).mean(dim=0).numpy()

    def scaled(self, z):
        """Return h of representations: chosen units, of unit length for cosines."""
        z = z[:, self.units]
        return z if self.similarity == "dot" else unit_length(z)

    def cotangents(self, z):
        """Return u for every sample: (n, 1, n_units)."""
        return torch.from_numpy(self.direction).to(z).expand(len(z), 1, -1)

    def scaled_rows(self, z):
        """Return h of an array of representations, in its dtype: (n, n_units)."""
        scaled = self.scaled(torch.from_numpy(np.asarray(z, dtype=np.float64))).numpy()
        return scaled.astype(z.dtype)
