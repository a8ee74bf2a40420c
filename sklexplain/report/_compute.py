"""The numbers in a report that no explainer computes."""

from contextlib import suppress

import numpy as np
from sklearn.metrics import r2_score
from sklearn.pipeline import Pipeline
from sklearn.utils import Bunch

from ..metrics import similarity_rate
from ..representation import kind_of, torch_modules, unwrap
from ..utils import as_array_like

MAX_CLASSES = 20
_ROUNDING = 1e-6  # of sums in 32 bits


def as_container(X):
    """Return samples as a DataFrame, if they are one, or an ndarray.

    Parameters
    ----------
    X : array-like, DataFrame or torch.Tensor
        Samples.

    Returns
    -------
    X : ndarray or DataFrame
    """
    X = as_array_like(X)
    return X if hasattr(X, "columns") else np.asarray(X)


def take(X, positions):
    """Return rows by position, with a fresh index if X is a pandas DataFrame.

    Parameters
    ----------
    X : ndarray or DataFrame
        Samples.
    positions : ndarray of int
        Which ones.

    Returns
    -------
    rows : ndarray or DataFrame
    """
    if hasattr(X, "iloc"):
        return X.iloc[positions].reset_index(drop=True)
    return X[positions]


def choose_shown(y, n_shown, rng):
    """Choose samples to show: at random, from every class in turn if there are labels.

    Parameters
    ----------
    y : ndarray of shape (n,) or None
        Labels.
    n_shown : int
        How many, at most.
    rng : numpy.random.RandomState
        Randomness.

    Returns
    -------
    positions : ndarray of int
        Those of the largest class first.
    """
    order = rng.permutation(len(y))
    classes, counts = np.unique(y, return_counts=True)
    if len(classes) > MAX_CLASSES:
        return order[:n_shown]
    turn = np.zeros(len(y), dtype=int)  # a sample's place within its class
    rank = np.zeros(len(y), dtype=int)  # its class's place, the largest first
    for place, k in enumerate(np.argsort(-counts, kind="stable")):
        members = order[y[order] == classes[k]]
        turn[members], rank[members] = np.arange(len(members)), place
    chosen = np.lexsort((rank, turn))[:n_shown]
    return chosen[np.lexsort((turn[chosen], rank[chosen]))]


def reconstruction(estimator, X):
    """Reconstruct samples, if the estimator can.

    Parameters
    ----------
    estimator : estimator or nn.Module
        Fitted.
    X : ndarray or DataFrame
        Samples.

    Returns
    -------
    result : Bunch or None
        ``inputs`` and ``outputs``, arrays in the units that the last step sees, ``raw``, the
        reconstruction in raw units or None, and ``r2``.
    """
    estimator = unwrap(estimator)
    inputs, last = X, estimator
    if isinstance(estimator, Pipeline):
        last = unwrap(estimator[-1])
        inputs = estimator[:-1].transform(X) if len(estimator) > 1 else X
    if not (hasattr(last, "transform") and hasattr(last, "inverse_transform")):
        return None
    outputs = np.asarray(last.inverse_transform(last.transform(inputs)))
    inputs = np.asarray(inputs.toarray() if hasattr(inputs, "toarray") else inputs)
    if inputs.shape != outputs.shape:
        return None
    raw = None
    if last is estimator:
        raw = outputs
    elif hasattr(estimator, "inverse_transform"):
        # A step may have an inverse and not know it for these data, as some imputers do.
        with suppress(ValueError, AttributeError, NotImplementedError, TypeError):
            raw = np.asarray(estimator.inverse_transform(estimator.transform(X)))
    return Bunch(inputs=inputs, outputs=outputs, raw=raw, r2=explained_variance(inputs, outputs))


def explained_variance(inputs, outputs):
    """Return R² over all entries: 1 is perfect, 0 is what the samples' mean achieves.

    Parameters
    ----------
    inputs, outputs : ndarray of shape (n, ...)
        Samples and their reconstructions.

    Returns
    -------
    r2 : float or None
        None for fewer than two samples.
    """
    if len(inputs) < 2:
        return None
    flat = (len(inputs), -1)
    pair = (values.reshape(flat).astype(np.float64) for values in (inputs, outputs))
    return float(r2_score(*pair, multioutput="variance_weighted"))


def squared_errors(result):
    """Return the reconstruction error of every sample.

    Parameters
    ----------
    result : Bunch
        From `reconstruction`.

    Returns
    -------
    errors : ndarray of shape (n,)
    """
    difference = np.asarray(result.outputs, dtype=np.float64) - result.inputs
    return (difference.reshape(len(difference), -1) ** 2).mean(axis=1)


def label_agreement(importance, y_query, y_corpus, n_top):
    """Say how often the most and the least important examples have the sample's label.

    Parameters
    ----------
    importance : ndarray of shape (n_query, n_corpus)
        Example importance.
    y_query, y_corpus : ndarray
        Labels.
    n_top : int
        How many examples of each sample count.

    Returns
    -------
    result : Bunch
        ``n_top``, ``most``, ``least`` and ``chance``, and ``classes``: a list of Bunches with the
        same for each label of the explained samples.
    """
    n_top = min(n_top, len(y_corpus))

    def rates(chosen):
        labels = y_query[chosen]
        return Bunch(
            n=int(chosen.sum()),
            n_corpus=int(np.isin(y_corpus, labels).sum()),
            most=float(similarity_rate(importance[chosen], labels, y_corpus, n_top=n_top)),
            least=float(
                similarity_rate(importance[chosen], labels, y_corpus, n_top=n_top, least=True)
            ),
            chance=float((labels[:, None] == y_corpus[None, :]).mean()),
        )

    result = rates(np.ones(len(y_query), dtype=bool))
    classes, counts = np.unique(y_query, return_counts=True)
    by_size = classes[np.argsort(-counts, kind="stable")][:MAX_CLASSES]
    result.classes = [Bunch(label=label, **rates(y_query == label)) for label in by_size]
    result.n_top = n_top
    return result


def half_window(importance):
    """Return the shortest stretch of time that has half of all importance.

    Parameters
    ----------
    importance : ndarray of shape (time,)
        Importance of every step, not negative.

    Returns
    -------
    first, last : int
        Its first and last step.
    """
    total = np.concatenate([[0.0], np.cumsum(importance, dtype=np.float64)])
    # Of every start, the first end at which half is reached; rounding must not miss it.
    ends = np.searchsorted(total, total[:-1] + total[-1] / 2 * (1 - 1e-9))
    lengths = np.where(ends < len(total), ends - np.arange(len(ends)), len(total))
    first = int(lengths.argmin())
    return first, max(first, int(ends[first]) - 1)


def half_count(importance):
    """Return how many entries, the largest first, have half of all importance.

    Parameters
    ----------
    importance : ndarray
        Not negative.

    Returns
    -------
    count : int
    """
    cumulated = np.cumsum(-np.sort(-np.ravel(importance).astype(np.float64)))
    return int(np.searchsorted(cumulated, cumulated[-1] / 2 * (1 - 1e-9))) + 1


def rarity(values, reference):
    """Return the share of reference values that are smaller, for each value.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Values.
    reference : ndarray of shape (m,)
        What they are compared with.

    Returns
    -------
    share : ndarray of shape (n,)
        Between 0 and 1.
    """
    return np.searchsorted(np.sort(reference), values, side="left") / len(reference)


def is_predictor(estimator):
    """Tell whether a fitted model is a classifier or a regressor, and no transformer.

    Parameters
    ----------
    estimator : estimator or nn.Module
        Fitted.

    Returns
    -------
    answer : bool
        False for bare modules, which do not tell.
    """
    estimator = unwrap(estimator)
    if not hasattr(estimator, "get_params") or hasattr(estimator, "transform"):
        return False
    return kind_of(estimator) in ("classifier", "regressor")


def is_classifying(estimator):
    """Tell whether a fitted model is a classifier by what it says of itself."""
    estimator = unwrap(estimator)
    return hasattr(estimator, "get_params") and kind_of(estimator) == "classifier"


def random_part(X, y, n_most, rng):
    """Return samples and labels (None without any), a random part if there are too many.

    Parameters
    ----------
    X : ndarray or DataFrame of shape (n, ...)
        Samples.
    y : ndarray of shape (n, ...) or None
        Labels.
    n_most : int
        How many at most.
    rng : numpy.random.RandomState
        Randomness.

    Returns
    -------
    X, y : ndarray or DataFrame, ndarray or None
        In their order.
    """
    chosen = np.sort(rng.permutation(len(X))[:n_most])
    return take(X, chosen), None if y is None else y[chosen]


def has_values(estimator, y):
    """Tell whether y holds values, not labels: two of them are hardly ever the same.

    Parameters
    ----------
    estimator : estimator or nn.Module
        Fitted.
    y : ndarray of shape (n,)
        Labels or values.

    Returns
    -------
    answer : bool
    """
    estimator = unwrap(estimator)
    if hasattr(estimator, "get_params") and kind_of(estimator) == "regressor":
        return True
    return y.dtype.kind == "f" and bool(np.any(y[np.isfinite(y)] % 1 != 0))


def model_facts(estimator, n_units, n_features):
    """Describe a model in short.

    Parameters
    ----------
    estimator : estimator or nn.Module
        Fitted.
    n_units : int
        Length of the representation.
    n_features : int
        Number of entries of a sample.

    Returns
    -------
    facts : Bunch
        ``name``, ``steps``, ``n_parameters``, ``n_epochs``, ``max_epochs``, ``n_units`` and
        ``n_features``.
    """
    estimator = unwrap(estimator)
    steps = list(estimator.named_steps.values()) if isinstance(estimator, Pipeline) else [estimator]
    last = unwrap(steps[-1])
    parameters = {
        id(p): p.numel() for module in torch_modules(estimator) for p in module.parameters()
    }
    name = type(last).__name__
    if isinstance(getattr(last, "module", None), str):
        name += f" ({last.module})"
    return Bunch(
        name=name,
        steps=[type(unwrap(step)).__name__ for step in steps],
        n_parameters=sum(parameters.values()),
        n_epochs=getattr(last, "n_epochs_", None),
        max_epochs=getattr(last, "max_epochs", None),
        n_units=n_units,
        n_features=n_features,
    )


def training_options(report):
    """Return what makes small networks train faster: the optimizer's step in one piece.

    Parameters
    ----------
    report : RepresentationReport
        With a fitted ``attributor_``.

    Returns
    -------
    net_params : dict or None
        Of the explainers that train.
    """
    # Elsewhere not every version of torch has it.
    on_cpu = report.attributor_._representation.device.type == "cpu"
    return {"optimizer__fused": True} if on_cpu else None


def without_rounding(maps, all_maps):
    """Return maps with 0 for what is nothing but rounding beside the largest attribution there is.

    A sample that is as the baseline to the model has such maps: its colours would be of rounding.

    Parameters
    ----------
    maps : ndarray
        Attributions of some samples.
    all_maps : ndarray
        Of all.

    Returns
    -------
    maps : ndarray
    """
    largest = max(np.abs(maps).max(initial=0.0), np.abs(all_maps).max(initial=0.0))
    return np.where(np.abs(maps) > _ROUNDING * largest, maps, 0.0)
