"""The terms of the sparse reconstruction autoencoder's loss: functions of tensors.

Per unit k of the layer, the mean squared error of a batch is m_k = 1/M sum_m (Z~_mk - Z_mk)^2. A
penalty that is concave in m_k is lowered most by what makes small errors smaller: some units are
reconstructed well and others not at all.
"""

import torch

# Target share of the Kullback-Leibler penalty, and what keeps its logarithms finite.
_RHO = 0.05
_TINY = 1e-12
_EPSILON = 0.01


def prediction_loss(predicted, target):
    """Mean squared error over samples and targets.

    Parameters
    ----------
    predicted, target : tensor of shape (b, n_targets)
        In units of each target's standard deviation.

    Returns
    -------
    loss : tensor of shape ()
    """
    return (predicted - target).square().mean()


def unit_errors(reconstructed, z):
    """Mean squared error of every unit over the batch.

    Parameters
    ----------
    reconstructed, z : tensor of shape (b, n_units)
        Activations.

    Returns
    -------
    errors : tensor of shape (n_units,)
    """
    return (reconstructed - z).square().mean(dim=0)


def _log(errors, q):
    return torch.log1p(q * errors)


def _l1(errors, q):
    # The slope at zero error is infinite: there it is taken as 0.
    positive = errors > 0
    return torch.where(positive, (q * torch.where(positive, errors, 1.0)).sqrt(), 0.0)


def _epsilon_l1(errors, q):
    return (q * errors + _EPSILON).sqrt()


def _kl(errors, q):
    share = (q * errors / (1 + q * errors)).clamp(min=_TINY)
    constant = _RHO * torch.log(share.new_tensor(_RHO)) + (1 - _RHO) * torch.log1p(
        share.new_tensor(-_RHO)
    )
    # log(1 - share) = -log(1 + q m), without the rounding of the difference.
    return constant - _RHO * share.log() + (1 - _RHO) * torch.log1p(q * errors)


def _none(errors, q):
    return errors


PENALTIES = {"log": _log, "l1": _l1, "epsilon_l1": _epsilon_l1, "kl": _kl, "none": _none}


def sparse_reconstruction_loss(reconstructed, z, *, q, penalty="log"):
    r"""Sparse reconstruction loss: the mean over units of a penalty of their errors.

    Parameters
    ----------
    reconstructed, z : tensor of shape (b, n_units)
        Activations; the mean over the batch is taken inside the penalty.
    q : float
        Larger values give up more units for fewer that are reconstructed well.
    penalty : {"log", "l1", "epsilon_l1", "kl", "none"}, default="log"
        With m_k the error of unit k: log(1 + q m_k); sqrt(q m_k); sqrt(q m_k + 0.01); the
        Kullback-Leibler divergence of q m_k / (1 + q m_k) from 0.05 (from 0 it would be "log");
        m_k itself.

    Returns
    -------
    loss : tensor of shape ()

    Examples
    --------
    >>> import torch
    >>> from sklexplain.concepts._losses import sparse_reconstruction_loss
    >>> z = torch.zeros(2, 3)
    >>> round(sparse_reconstruction_loss(z + torch.tensor([0.0, 0.0, 3.0]), z, q=1.0).item(), 4)
    0.7675
    """
    return PENALTIES[penalty](unit_errors(reconstructed, z), q).mean()


def pull_away_loss(concepts):
    """Mean squared cosine between different concepts.

    Parameters
    ----------
    concepts : tensor of shape (b, n_concepts)
        Concepts times their weights.

    Returns
    -------
    loss : tensor of shape ()
        0 for orthogonal columns, 1 for parallel ones; 0 for a single column. A column of zeros is
        orthogonal to all.
    """
    n = concepts.shape[1]
    if n < 2:
        return concepts.new_zeros(())
    unit = torch.nn.functional.normalize(concepts, dim=0)
    cosines = unit.T @ unit  # (n_concepts, n_concepts)
    return (cosines.square().sum() - cosines.diagonal().square().sum()) / (n * (n - 1))
