"""How abnormal a sample is: one number that an estimator makes of it, as a function of tensors."""

import numpy as np
import torch
from torch import nn

from ..representation import is_detector, kind_of, reconstructs, unwrap

SCORES = ("auto", "reconstruction", "largest_residual", "decision")
OF_RESIDUALS = ("reconstruction", "largest_residual")
_LEAST = 1e-3  # of a typical residual's size: entries that normal samples always have right


def resolved_score(score_function, estimator):
    """Say which score is meant.

    Parameters
    ----------
    score_function : str or callable
        The parameter.
    estimator : nn.Module or fitted estimator
        What is explained.

    Returns
    -------
    kind : {"reconstruction", "largest_residual", "decision", "callable"}

    Raises
    ------
    TypeError
        If nothing says how abnormal a sample is.
    """
    if callable(score_function):
        return "callable"
    if score_function != "auto":
        return score_function
    is_network = isinstance(unwrap(estimator), nn.Module)
    if not is_network and kind_of(unwrap(estimator)) == "outlier_detector":
        return "decision"
    if reconstructs(estimator):
        return "reconstruction"
    if is_detector(estimator):
        return "decision"
    raise TypeError(
        f"{type(unwrap(estimator)).__name__} neither reconstructs samples (transform with "
        "inverse_transform) nor scores how abnormal they are (score_samples, or a detector's "
        "decision_function); set score_function to a function of what it returns, larger for what "
        "is more abnormal."
    )


def mean_square(z):
    """Mean square of residuals.

    Parameters
    ----------
    z : torch.Tensor of shape (b, N)
        Samples minus their reconstructions.

    Returns
    -------
    s : torch.Tensor of shape (b, 1)
    """
    return z.square().mean(dim=1, keepdim=True)


def typical_size(squares):
    """Root mean squares of residuals, none of them so small that it could not be divided by.

    Parameters
    ----------
    squares : ndarray of shape (..., N)
        Mean squares of each entry's residuals among normal samples.

    Returns
    -------
    size : ndarray of shape (..., N)
    """
    overall = squares.mean(axis=-1, keepdims=True)
    size = np.sqrt(np.maximum(squares, _LEAST**2 * overall))
    return np.where(size > 0, size, 1.0)


def largest_square(z, size):
    """Largest square of residuals over their usual size.

    Parameters
    ----------
    z : torch.Tensor of shape (b, N)
        Samples minus their reconstructions.
    size : ndarray of shape (N,)
        From `typical_size`.

    Returns
    -------
    s : torch.Tensor of shape (b, 1)
    """
    return (z / torch.from_numpy(size).to(z)).square().amax(dim=1, keepdim=True)


def of_callable(function, z):
    """Score outputs by the user's own function.

    Parameters
    ----------
    function : callable
        From tensors (b, N) to (b,).
    z : torch.Tensor of shape (b, N)
        Outputs.

    Returns
    -------
    s : torch.Tensor of shape (b, 1)

    Raises
    ------
    ValueError
        If it returns another shape, or what is not finite.
    TypeError
        If it returns no numbers.
    """
    s = function(z.clone())  # z may be the samples themselves, of a network that only copies
    if not isinstance(s, torch.Tensor):
        try:
            s = torch.as_tensor(np.asarray(s, dtype=np.float64))
        except (TypeError, ValueError) as error:
            raise TypeError(f"score_function returned {type(s).__name__}, no numbers.") from error
    if tuple(s.shape) not in ((len(z),), (len(z), 1)):
        raise ValueError(
            f"score_function returned shape {tuple(s.shape)} for outputs of shape "
            f"{tuple(z.shape)}; it must return one number a sample, ({len(z)},), larger for what "
            "is more abnormal."
        )
    if not torch.isfinite(s.detach()).all():
        raise ValueError("score_function returned NaN or infinity.")
    return s.reshape(len(z), 1)


def check_sign(scores, abnormal, estimator, method):
    """Raise if a detector's scores are not larger for what it calls abnormal itself.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        How abnormal samples are taken to be.
    abnormal : ndarray of bool or None
        Which of them the detector calls so.
    estimator : estimator
        The detector.
    method : str
        Where the scores come from.

    Raises
    ------
    ValueError
        Naming both means.
    """
    if abnormal is None or len(abnormal) != len(scores) or not abnormal.any() or abnormal.all():
        return
    theirs, others = scores[abnormal].mean(), scores[~abnormal].mean()
    if not theirs > others:
        raise ValueError(
            f"by {method}, samples that {type(unwrap(estimator)).__name__} calls abnormal are less "
            f"so than the others (mean {theirs:.3g} against {others:.3g}): its sign is not that of "
            "scikit-learn's detectors. Set score_function to a function of the output, larger for "
            "what is more abnormal, such as score_function=lambda z: z[:, 0]."
        )
