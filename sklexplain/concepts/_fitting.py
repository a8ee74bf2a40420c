"""Helpers of fitting an explanation by concepts: checks of parameters, scales, warnings."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from ..exceptions import ConvergenceWarning
from ..explaining import fitted_baseline, mean_sample
from ..layers import activation_moments
from ..training import diverging, make_array_net, still_improves
from ..utils import known_range, seeded, warn
from ._network import ConceptModule, ConceptObjective, StopAfterWarmUp


def spread(targets):
    """Return the standard deviation of every target, 1 where it does not vary.

    Parameters
    ----------
    targets : ndarray of shape (n, n_targets)
        Values.

    Returns
    -------
    scale : ndarray of shape (n_targets,)
    """
    std = targets.std(axis=0, dtype=np.float64)
    return np.where(_varies(targets, std), std, 1.0)


def _varies(targets, std):
    """Tell which targets vary; what rounding alone makes vary does not."""
    return std > 1e-6 * np.abs(targets).max(axis=0)


def varying_targets(targets, target):
    """Tell which targets vary over the data; warn of those that do not.

    Parameters
    ----------
    targets : ndarray of shape (n, n_targets)
        Values.
    target : Target
        Which outputs they are.

    Returns
    -------
    varying : ndarray of bool of shape (n_targets,)

    Warns
    -----
    SklexplainWarning
        If an output does not vary.
    """
    varying = _varies(targets, targets.std(axis=0, dtype=np.float64))
    if not varying.all() and len(targets) > 1:
        names = [
            "the norm of the output" if target.units is None else f"output {target.units[i]}"
            for i in np.flatnonzero(~varying)
        ]
        verb = "does" if len(names) == 1 else "do"
        warn(
            f"{', '.join(names)} {verb} not vary over X: there is nothing to explain, and no "
            "concept is active for it."
        )
    return varying


def warn_of_nothing_compressed(n_concepts, shape, what, name="n_concepts"):
    """Warn if there are as many concepts as units.

    Parameters
    ----------
    n_concepts : int
        Number of concepts that a sample is told by.
    shape : tuple of int
        Of one sample's activations.
    what : str
        The activations in words.
    name : str, default="n_concepts"
        The parameter.

    Warns
    -----
    SklexplainWarning
        Naming both numbers.
    """
    size = int(np.prod(shape))
    if n_concepts >= size:
        warn(
            f"{name}={n_concepts}, but {what} have {size} unit{'s' if size > 1 else ''}: so "
            "many concepts compress nothing. Set fewer, or explain a larger layer."
        )


@dataclass(frozen=True)
class DataSummary:
    """Summary of the data for maps of concepts, so that the data themselves need not be kept.

    Attributes
    ----------
    mean : ndarray of shape (...)
        Mean sample.
    low, high : ndarray of shape (...)
        Smallest and largest value of every entry.
    background : ndarray of shape (n_background, ...)
        At most 100 samples, drawn at random.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    background: np.ndarray


def summary_of(inputs, representation, seed):
    """Summarise data as they enter the network.

    Parameters
    ----------
    inputs : ndarray of shape (n, ...)
        Samples.
    representation : Representation
        Of the network.
    seed : int
        Of the choice of background samples.

    Returns
    -------
    summary : DataSummary
    """
    mean = mean_sample(representation, inputs)
    options = {"mean": mean, "input_shape": inputs.shape[1:], "seed": seed}
    background = fitted_baseline("background", representation, inputs, **options)
    return DataSummary(mean, *known_range(inputs), background)


def train_concepts(params, z, targets, split, *, seed, device, owner):
    """Train the explanation module on a layer's activations.

    Parameters
    ----------
    params : object
        The explainer's parameters.
    z : ndarray of shape (n, *shape)
        Activations.
    targets : ndarray of shape (n, n_targets)
        Values that are predicted from the concepts.
    split : tuple of (ndarray of int, ndarray of int or None)
        Rows to fit on, and to watch.
    seed : int
        Determines the initial weights and the mini-batches.
    device : torch.device
        Where to train.
    owner : str
        The explainer's name, for messages.

    Returns
    -------
    net : ArrayNet

    Raises
    ------
    ValueError
        If training diverged.
    """
    z_mean, z_scale = activation_moments(z)
    # Plain numbers and arrays: the net can be saved with them, and its module built again.
    module_params = {
        "module__shape": tuple(z.shape[1:]),
        "module__n_concepts": int(params.n_concepts),
        "module__hidden_layer_sizes": tuple(int(n) for n in params.hidden_layer_sizes),
        "module__z_mean": z_mean,
        "module__z_scale": z_scale,
        "module__y_mean": targets.mean(axis=0, dtype=np.float64),
        "module__y_scale": spread(targets),
    }
    # Short trainings too should see the full loss most of the time.
    warm_up = min(int(params.warm_up), int(params.max_epochs) // 3)
    objective = ConceptObjective(
        beta=params.beta,
        pull_away=params.pull_away,
        q=params.q,
        penalty=params.penalty,
        warm_up=warm_up,
    )
    with torch.inference_mode(False), torch.enable_grad(), seeded(seed, device):
        net = make_array_net(
            params,
            ConceptModule,
            device,
            {"module": "hidden_layer_sizes", "criterion": "penalty"},
            owner,
            stopping=partial(StopAfterWarmUp, warm_up),
            batch_size=50,
            **module_params,
            **_weight_decay(params.net_params),
        ).initialize()
        arrays = {"z": z, "y": net.module_.standardised(targets)}
        with diverging(net, params, "beta", "q", "pull_away", scale=False):
            net.fit_arrays(arrays, objective, *split)
    net.module_.orient()
    net.module_.fold()
    return net


def _weight_decay(net_params):
    """Adam's; not every other optimizer takes one."""
    return {} if "optimizer" in (net_params or {}) else {"optimizer__weight_decay": 1e-4}


def warn_unless_converged(net):
    """Warn if the held-out loss still improved when the last epoch was reached.

    Parameters
    ----------
    net : ArrayNet
        After training.

    Warns
    -----
    ConvergenceWarning
        Naming ``max_epochs``.
    """
    if still_improves(net):
        warn(
            f"The validation loss still improved when max_epochs={net.max_epochs} was reached: "
            "raise max_epochs or lr.",
            ConvergenceWarning,
        )
