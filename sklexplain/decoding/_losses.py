"""The terms of the decoder's loss, each with one number per sample."""

import numpy as np
import torch
from torch.nn import functional

# How scores become probabilities.
LINKS = ("softmax", "sigmoid", "probability", "binary_probability", "log_probability")


def squared_error(x_hat, x):
    """Sum of squared differences of each sample.

    Parameters
    ----------
    x_hat, x : torch.Tensor of shape (b, ...)
        Reconstructions and samples, or any other two things to be close.

    Returns
    -------
    loss : torch.Tensor of shape (b,)

    Examples
    --------
    >>> import torch
    >>> from sklexplain.decoding._losses import squared_error
    >>> squared_error(torch.zeros(2, 3), torch.ones(2, 3))
    tensor([3., 3.])
    """
    return (x_hat - x).square().flatten(1).sum(dim=1)


def binary_cross_entropy(logits, x):
    """Sum over entries between 0 and 1 of their cross-entropy, as used for MNIST in the paper.

    Parameters
    ----------
    logits : torch.Tensor of shape (b, ...)
        Reconstructions before the sigmoid.
    x : torch.Tensor of shape (b, ...)
        Samples, between 0 and 1.

    Returns
    -------
    loss : torch.Tensor of shape (b,)
    """
    losses = functional.binary_cross_entropy_with_logits(logits, x, reduction="none")
    return losses.flatten(1).sum(dim=1)


# Losses of a decoder's output and samples, by the name of the parameter ``loss``.
RECONSTRUCTION_LOSSES = {
    "squared_error": squared_error,
    "cross_entropy": binary_cross_entropy,  # of logits
}


def class_loss(log_probabilities, target):
    """Cross-entropy between target probabilities and those of the reconstruction.

    Parameters
    ----------
    log_probabilities : torch.Tensor of shape (b, n_classes)
        Of the classifier, for the reconstruction.
    target : torch.Tensor of shape (b, n_classes) or (b,)
        Probabilities, or the numbers of the classes.

    Returns
    -------
    loss : torch.Tensor of shape (b,)
    """
    if target.dim() == 1:
        return -log_probabilities.gather(1, target.long()[:, None])[:, 0]
    return -(target * log_probabilities).sum(dim=1)


def labels_loss(probabilities, target):
    """Cross-entropy of labels that do not exclude each other, summed over them.

    Parameters
    ----------
    probabilities, target : torch.Tensor of shape (b, n_labels)
        Of every label, for the reconstruction and wanted.

    Returns
    -------
    loss : torch.Tensor of shape (b,)
    """
    # A probability of zero would be an infinite loss; beside 1 there is less room than beside 0.
    p = probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny)
    q = (1 - probabilities).clamp(min=torch.finfo(probabilities.dtype).eps / 2)
    return -(target * p.log() + (1 - target) * q.log()).sum(dim=1)


def gaussian_divergence(mean, log_variance):
    """Kullback-Leibler divergence of normal distributions from the standard normal one.

    Parameters
    ----------
    mean, log_variance : torch.Tensor of shape (b, n_latent)
        Of independent normal variables.

    Returns
    -------
    divergence : torch.Tensor of shape (b,)
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)


def log_probabilities(scores, link):
    """Logarithms of class probabilities.

    Parameters
    ----------
    scores : torch.Tensor of shape (b, n_outputs)
        A classifier's output.
    link : {"softmax", "sigmoid", "probability", "binary_probability", "log_probability"}
        The function that turns them into probabilities.

    Returns
    -------
    log_probabilities : torch.Tensor of shape (b, n_classes)
    """
    if link == "softmax":
        return scores.log_softmax(dim=1)
    if link == "sigmoid":
        return functional.logsigmoid(torch.cat([-scores, scores], dim=1))
    if link == "log_probability":
        return scores
    if link == "binary_probability":
        scores = torch.cat([1 - scores, scores], dim=1)
    # A probability of zero would be an infinite loss.
    return scores.clamp(min=torch.finfo(scores.dtype).tiny).log()


def find_link(scores, probabilities=None):
    """Find the function that turns a classifier's scores into probabilities.

    Parameters
    ----------
    scores : torch.Tensor of shape (b, n_outputs)
        Output of its network.
    probabilities : torch.Tensor of shape (b, n_classes) or None, default=None
        The classifier's own, for the same samples. None: scores that look like probabilities, or
        their logarithms, are taken for these; others are logits.

    Returns
    -------
    link : str or None
        None if no known link gives those probabilities.
    """
    if probabilities is None:
        if scores.shape[1] == 1:
            inside = bool(((scores >= 0) & (scores <= 1)).all())
            return "binary_probability" if inside else "sigmoid"
        for link in ("probability", "log_probability"):
            p = scores if link == "probability" else scores.exp()
            ones = torch.ones_like(p[:, 0])
            if bool((p >= 0).all()) and torch.allclose(p.sum(dim=1), ones, atol=1e-4):
                return link
        return "softmax"
    if not torch.allclose(probabilities.sum(dim=1), probabilities.new_ones(()), atol=1e-3):
        return None  # of labels that do not exclude each other
    for link in LINKS:
        if link in ("sigmoid", "binary_probability") and scores.shape[1] != 1:
            continue
        p = log_probabilities(scores, link).exp().to(probabilities)
        if p.shape == probabilities.shape and torch.allclose(p, probabilities, atol=1e-5):
            return link
    return None


def squared_deviation(values, others):
    """Sum of the squared differences of two arrays, in float64."""
    return float(np.square(values - others, dtype=np.float64).sum())


def explained_share(error, total):
    """Share of a squared deviation that is explained.

    Parameters
    ----------
    error : float
        The part that is not explained.
    total : float
        The deviation.

    Returns
    -------
    share : float
        1 is perfect, 0 nothing; where there is no deviation, 1 without an error and 0 with one.
    """
    return float(error == 0) if total == 0 else 1 - error / total
