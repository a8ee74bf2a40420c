"""Outputs that take few different values, which many changes of a sample leave as they are."""

import numpy as np

from ..exceptions import FewValuesWarning
from ..utils import warn
from ._offers import RESPONSE_METHODS, name_of

_FEWEST_ROWS = 40  # of fewer samples, few values say nothing
_MOST_ROWS = 1000
_DIGITS = 9  # outputs that differ less are the same but for rounding


def warn_of_few_values(representation, inputs, batch_size, seed):
    """Warn if an estimator without torch form takes few different values on the data.

    Parameters
    ----------
    representation : Representation
        In a session.
    inputs : ndarray of shape (n, ...)
        The fitted samples. A random 1000 of them are looked at, and only as many as it takes to
        see that there are enough values: seldom more than a tenth.
    batch_size : int
        Most samples at once.
    seed : int
        Of the draw.

    Warns
    -----
    FewValuesWarning
        If at most a twentieth of the samples, or 10, have different outputs.
    """
    if representation.no_torch_form is None or len(inputs) < _FEWEST_ROWS:
        return
    rows = np.random.default_rng([seed, 4]).permutation(len(inputs))[:_MOST_ROWS]
    enough = max(10, len(rows) // 20)
    outputs = np.empty((0, representation.n_units))
    for start in range(0, len(rows), 2 * enough):
        chosen = inputs[rows[start : start + 2 * enough]]
        outputs = np.concatenate([outputs, representation.activations(chosen, batch_size)])
        outputs = _distinct(outputs)
        if len(outputs) > enough:
            return
    samples = inputs[rows].reshape(len(rows), -1)
    if len(outputs) < len(_distinct(samples)):  # else it tells all samples apart
        warn(_text(representation, outputs, len(rows)), FewValuesWarning)


def _distinct(rows):
    """Return the rows that differ by more than rounding."""
    rows = np.asarray(rows, dtype=np.float64)
    scale = np.nanmax(np.abs(rows), initial=0.0) or 1.0
    _, first = np.unique(np.round(rows / scale, _DIGITS), axis=0, return_index=True)
    return rows[first]


def _text(representation, outputs, n_rows):
    method, estimator = representation.method, representation.estimator
    what = "the layer's output" if method is None else f"{method} of {name_of(estimator)}"
    one_hot = method == "predict_proba" and np.isin(outputs, (0, 1)).all()
    values = f"{len(outputs)} different value{'s' if len(outputs) > 1 else ''}"
    text = (
        f"{what} takes only {values} on {n_rows} samples of fit"
        f"{' (its probabilities are 0 or 1)' if one_hot else ''}, so many changes of a sample "
        "change nothing: maps may be zero, and neighbours tie."
    )
    ways = [
        f"response_method={name!r}"
        for name in RESPONSE_METHODS
        if name in ("decision_function", "score_samples")
        and name != method
        and method is not None
        and hasattr(estimator, name)
    ]
    if one_hot:
        ways.append("a calibrated or probabilistic last step (CalibratedClassifierCV)")
    elif not ways:
        ways.append("an estimator whose output varies more")
    return f"{text} Use {', or '.join(ways)}."
