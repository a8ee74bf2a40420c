"""The attribution methods by name: their parameters, and how each is run."""

import numpy as np
import torch
from sklearn.utils import check_random_state

from ..utils import check_choice, check_positive_int
from . import _designs as _perturbation
from . import _paths as _gradients
from ._deep_lift import deep_lift

# Each method's parameters with their defaults.
GRADIENT_METHODS = {
    "saliency": {},
    "input_x_gradient": {},
    "integrated_gradients": {"n_steps": 50},
    "gradient_shap": {"n_samples": 50},
    "smooth_grad": {"n_samples": 25, "noise_level": 0.1},
    "deep_lift": {},
}
PERTURBATION_METHODS = {
    "feature_ablation": {},
    "occlusion": {"window": None, "stride": None},
    "shapley_sampling": {"n_samples": 25},
    "kernel_shap": {"n_samples": None},
    "lime": {"n_samples": None, "alpha": 1.0, "kernel_width": 0.25},
}
METHODS = {**GRADIENT_METHODS, **PERTURBATION_METHODS}


def checked_params(method, given):
    """Fill a method's parameters up with defaults, and refuse what it does not have.

    Parameters
    ----------
    method : str
        One of `METHODS`.
    given : dict or None
        What the user set.

    Returns
    -------
    params : dict

    Raises
    ------
    ValueError, TypeError
        If a parameter is unknown or out of range.
    """
    params = dict(METHODS[method])
    for name, value in (given or {}).items():
        if not params:
            raise ValueError(f"method_params={given}: method={method!r} has no parameters.")
        check_choice(f"method_params key for {method!r}", name, params)
        params[name] = value
    for name in ("n_steps", "n_samples"):
        if params.get(name) is not None:
            check_positive_int(f"method_params[{name!r}]", params[name])
    for name in ("noise_level", "alpha", "kernel_width"):
        if name in params and not params[name] > 0:
            raise ValueError(f"method_params[{name!r}]={params[name]} must be positive.")
    return params


class Engine:
    """One method with everything random in it drawn, ready for any sample.

    Parameters
    ----------
    method : str
        One of `METHODS`.
    params : dict
        From `checked_params`.
    n_references : int
        Number of baseline rows.
    players : ndarray of int
        Which player each entry of the inputs belongs to, for perturbation methods.
    n_players : int
        How many there are, those without an entry included.
    window_shape : tuple of int or None
        Shape that occlusion windows slide over; None: the players are the windows.
    noise_std : ndarray or None
        Of SmoothGrad's noise, an entry.
    seed : int
        Of all draws.

    Raises
    ------
    ValueError
        If window or coalition numbers do not fit the players.
    """

    def __init__(
        self, method, params, *, n_references, players, n_players, window_shape, noise_std, seed
    ):
        self.method = method
        self.params = params
        self.n_references = n_references
        self.players = players
        self.n_players = n_players
        self.window_shape = window_shape
        self.noise_std = noise_std
        self.seed = seed
        if method in PERTURBATION_METHODS:
            self._design()  # so that what does not fit is refused in fit, not in transform

    def on(self, encode, block_rows):
        """Return the function (x, references, cotangents) -> maps.

        Parameters
        ----------
        encode : callable
            (b, ...) to (b, N).
        block_rows : int
            Most rows in the network at once.

        Returns
        -------
        attribute : callable
            From tensors (n, ...), (n or 1, K, ...), (n, k, N) to (n, k, ...) or, for perturbation
            methods, (n, k, n_players).
        """
        if self.method == "deep_lift":
            rows = max(1, block_rows // 2)
            return lambda x, r, c: _in_blocks(deep_lift, rows, encode, x, r, c)
        if self.method in GRADIENT_METHODS:
            path = self._path()
            return lambda x, r, c: _gradients.path_gradients(encode, x, r, c, path, block_rows)
        design = self._design()
        players = torch.from_numpy(self.players)
        return lambda x, r, c: _perturbation.masked_attributions(
            encode, x, r, c, players, design, block_rows
        )

    def _path(self):
        rng = check_random_state(self.seed)
        if self.method == "saliency":
            return _gradients.saliency_path()
        if self.method == "input_x_gradient":
            return _gradients.input_x_gradient_path(self.n_references)
        if self.method == "integrated_gradients":
            return _gradients.integrated_gradients_path(self.n_references, self.params["n_steps"])
        n_samples = self.params["n_samples"]
        if self.method == "gradient_shap":
            return _gradients.expected_gradients_path(self.n_references, n_samples, rng)
        return _gradients.smooth_grad_path(n_samples, self.noise_std, rng)

    def _design(self):
        rng = check_random_state(self.seed)
        n_players = self.n_players
        if self.method == "occlusion" and self.window_shape is not None:
            window = _per_axis("window", self.params["window"], self.window_shape, 10)
            stride = _per_axis("stride", self.params["stride"], window, 2)
            return _perturbation.occlusion_design(self.window_shape, window, stride)
        if self.method in ("feature_ablation", "occlusion"):
            return _perturbation.feature_ablation_design(n_players)
        n_samples = self.params["n_samples"]
        if self.method == "shapley_sampling":
            return _perturbation.shapley_sampling_design(n_players, n_samples, rng)
        n_samples = 2 * n_players + 2048 if n_samples is None else n_samples
        if self.method == "kernel_shap":
            return _perturbation.kernel_shap_design(n_players, n_samples, rng)
        alpha, width = self.params["alpha"], self.params["kernel_width"]
        return _perturbation.lime_design(n_players, n_samples, width, alpha, rng)


def _per_axis(name, value, sizes, default_share):
    """Window or stride along each axis; by default a share of the axis (of the window)."""
    if value is None:
        return [max(1, size // default_share) for size in sizes]
    values = [value] * len(sizes) if np.ndim(value) == 0 else list(value)
    if len(values) != len(sizes):
        raise ValueError(
            f"method_params[{name!r}]={value} must be an integer or one for each of a sample's "
            f"{len(sizes)} axes."
        )
    for v, size in zip(values, sizes, strict=True):
        check_positive_int(f"method_params[{name!r}]", v)
        if v > size and np.ndim(value):
            limit = "a sample" if name == "window" else "the window, which would leave gaps"
            raise ValueError(f"method_params[{name!r}]={value} is larger than {limit} ({size}).")
    return [min(v, size) for v, size in zip(values, sizes, strict=True)]


def _in_blocks(function, n_rows, encode, x, references, cotangents):
    """Run an engine on a few samples at a time."""
    parts = []
    for i in range(0, len(x), n_rows):
        block = slice(i, i + n_rows)
        own = references if len(references) == 1 else references[block]
        parts.append(function(encode, x[block], own, cotangents[block]))
    return torch.cat(parts)
