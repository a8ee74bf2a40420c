"""The attribution methods: one record for each, with all facts that the library needs."""

import functools
from types import MappingProxyType

import numpy as np
import torch

from ..utils import check_positive_int
from . import _designs as designs
from . import _paths as paths
from ._deep_lift import deep_lift
from ._records import Method, Records, registered


def _along(path, setup):
    """Make a method of a table of points."""
    turned = None if setup.basis is None else setup.basis.coefficients

    def attribute(
        encode, x, references, cotangents, block_rows, squares=None, signs=None, spread=None
    ):
        return paths.path_gradients(
            encode, x, references, cotangents, path, block_rows, squares, signs, spread, turned
        )

    return attribute


def _masked(design, setup):
    """Make a method of a table of coalitions."""
    players = torch.from_numpy(setup.players)

    def attribute(
        encode, x, references, cotangents, block_rows, squares=None, signs=None, spread=None
    ):
        encode, x, references = _by_coefficient(setup, encode, x, references)
        return designs.masked_attributions(
            encode, x, references, cotangents, players, design, block_rows, spread
        )

    return attribute


def _by_coefficient(setup, encode, x, references):
    """Turn a function of series, and two sets of them, into those of coefficients."""
    basis, dtype = setup.basis, x.dtype
    if basis is None:
        return encode, x, references
    return (
        lambda c: encode(basis.series(c).to(dtype)),
        basis.coefficients(x),
        basis.coefficients(references),
    )


def _rescaled(params, setup, rng):
    """Make DeepLIFT, which runs samples and baselines together, a few at a time."""
    turned = None if setup.basis is None else setup.basis.coefficients

    def attribute(
        encode, x, references, cotangents, block_rows, squares=None, signs=None, spread=None
    ):
        n_rows, parts = max(1, block_rows // 2), []
        for i in range(0, len(x), n_rows):
            block = slice(i, i + n_rows)
            rows = references if len(references) == 1 else references[block]
            parts.append(deep_lift(encode, x[block], rows, cotangents[block], turned))
        return torch.cat(parts)

    return attribute


def _saliency(params, setup, rng):
    return _along(paths.saliency_path(), setup)


def _input_x_gradient(params, setup, rng):
    return _along(paths.input_x_gradient_path(setup.n_references), setup)


def _integrated_gradients(params, setup, rng):
    return _along(paths.integrated_gradients_path(setup.n_references, params["n_steps"]), setup)


def _gradient_shap(params, setup, rng):
    n_samples = params["n_samples"]
    return _along(paths.expected_gradients_path(setup.n_references, n_samples, rng), setup)


def _smooth_grad(params, setup, rng):
    path = paths.smooth_grad_path(
        params["n_samples"], setup.noise_std, rng, setup.columns, setup.n_columns
    )
    return _along(path, setup)


def _feature_ablation(params, setup, rng):
    return _masked(designs.feature_ablation_design(setup.n_players), setup)


def _occlusion(params, setup, rng):
    if setup.window_shape is None:
        return _feature_ablation(params, setup, rng)
    window = _per_axis("window", params["window"], setup.window_shape, 10)
    stride = _per_axis("stride", params["stride"], window, 2)
    return _masked(designs.occlusion_design(setup.window_shape, window, stride), setup)


def _shapley_sampling(params, setup, rng):
    n_orders = params["n_samples"]
    return _masked(designs.shapley_sampling_design(setup.n_players, n_orders, rng), setup)


def _kernel_shap(params, setup, rng):
    def design(n_players, n_samples, rng):
        return designs.kernel_shap_design(n_players, n_samples, rng)

    if params["n_samples"] is not None:  # so that too few are refused whatever the samples are
        design(setup.n_players, params["n_samples"], _copy_of(rng))
    return _masked_if_present(design, params, setup, rng)


def _lime(params, setup, rng):
    width, alpha = params["kernel_width"], params["alpha"]

    def design(n_players, n_samples, rng):
        return designs.lime_design(n_players, n_samples, width, alpha, rng)

    return _masked_if_present(design, params, setup, rng)


def _masked_if_present(design, params, setup, rng):
    """Make a method of tables of coalitions of the players that are not as in the baseline."""
    players, basis = torch.from_numpy(setup.players), setup.basis
    rng = _copy_of(rng)

    @functools.lru_cache(maxsize=16)
    def of(n_players):
        """Of the samples that have so many players."""
        n_samples = params["n_samples"] or _default_coalitions(n_players)
        return design(n_players, n_samples, _copy_of(rng))

    def attribute(
        encode, x, references, cotangents, block_rows, squares=None, signs=None, spread=None
    ):
        differs = None
        if basis is not None:  # coefficients of equal series may differ by rounding
            differs = (basis.coefficients(x[:, None] - references) != 0).any(dim=1)
        encode, x, references = _by_coefficient(setup, encode, x, references)
        return designs.masked_attributions_of_present(
            encode,
            x,
            references,
            cotangents,
            players,
            setup.n_players,
            of,
            block_rows,
            differs,
            spread,
        )

    return attribute


def _copy_of(rng):
    """Return a generator in the same state."""
    same = np.random.RandomState()
    same.set_state(rng.get_state())
    return same


def _relax(params, setup, rng):
    n_masks, relative = params["n_samples"], params["relative"]
    return _masked(designs.relax_design(setup.n_players, n_masks, relative, rng), setup)


def _default_coalitions(n_players):
    return 2 * n_players + 2048


def _per_axis(name, value, sizes, default_share):
    """Window or stride along each axis of a sample.

    Parameters
    ----------
    name : {"window", "stride"}
        The parameter.
    value : int, sequence of int or None
        Its value.
    sizes : sequence of int
        Sizes of the axes, or for a stride those of the window.
    default_share : int
        None stands for the sizes divided by this.

    Returns
    -------
    values : list of int

    Raises
    ------
    ValueError
        If the number of values does not fit the axes, or one is out of range.
    """
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


_NOT_SMOOTH = (
    "the network is not differentiable between baseline and sample (a step, a rounding or a "
    "lookup), so use a method without gradients, such as 'kernel_shap'"
)
# Masked samples' outputs are summed with coefficients that cancel, so no error is left.
_NOT_REPEATABLE = "the network does not give a sample the same output every time"

_RECORDS = (
    Method(
        "saliency",
        "the gradient at the sample, with its sign",
        _saliency,
        in_raw_slope=True,
        uses_baseline=False,
    ),
    Method(
        "input_x_gradient",
        "the difference to the baseline times the gradient at the sample",
        _input_x_gradient,
    ),
    Method(
        "integrated_gradients",
        "that difference times the mean gradient on the straight line between the two",
        _integrated_gradients,
        MappingProxyType({"n_steps": 50}),
        is_complete=True,
        refined_by="n_steps",
        shortfall=_NOT_SMOOTH,
    ),
    Method(
        "gradient_shap",
        "the same at random points of the lines from random baseline rows (expected gradients)",
        _gradient_shap,
        MappingProxyType({"n_samples": 50}),
        is_complete=True,
        in_expectation=True,
        samples=True,
        shortfall="that is more than random draws explain: raise {n_samples}, or " + _NOT_SMOOTH,
    ),
    Method(
        "smooth_grad",
        "the mean gradient at the sample plus noise",
        _smooth_grad,
        MappingProxyType({"n_samples": 25, "noise_level": 0.1}),
        samples=True,
        in_raw_slope=True,
        uses_baseline=False,
    ),
    Method(
        "deep_lift",
        "slopes of secants instead of derivatives (DeepLIFT's rescale rule)",
        _rescaled,
        follows_operations=True,
        is_complete=True,
        shortfall=_NOT_SMOOTH,
    ),
    Method(
        "feature_ablation",
        "the change when a feature takes the baseline's value",
        _feature_ablation,
        needs_gradients=False,
    ),
    Method(
        "occlusion",
        "the change when a window of a series or image does, averaged over windows",
        _occlusion,
        MappingProxyType({"window": None, "stride": None}),
        needs_gradients=False,
    ),
    Method(
        "shapley_sampling",
        "the mean change when a feature is added, over random orders",
        _shapley_sampling,
        MappingProxyType({"n_samples": 25}),
        needs_gradients=False,
        is_complete=True,
        samples=True,
        shortfall=_NOT_REPEATABLE,
    ),
    Method(
        "kernel_shap",
        "Shapley values by least squares on random coalitions",
        _kernel_shap,
        MappingProxyType({"n_samples": None}),
        needs_gradients=False,
        is_complete=True,
        samples=True,
        shortfall=_NOT_REPEATABLE,
    ),
    Method(
        "lime",
        "ridge regression on random coalitions near the sample",
        _lime,
        MappingProxyType({"n_samples": None, "alpha": 1.0, "kernel_width": 0.25}),
        needs_gradients=False,
        samples=True,
    ),
)
# Of an estimator of its own: it is linear in cosines, not in the representation.
RELAX = Method(
    "relax",
    "the mean cosine over random masks that keep a cell (RELAX)",
    _relax,
    MappingProxyType({"n_samples": 1000, "relative": False}),
    needs_gradients=False,
    samples=True,
    leaves_gaps=True,
)
_ALL = {record.name: record for record in (*_RECORDS, RELAX)}
RECORDS = Records(_ALL, lambda record: True)
METHODS = Records(_ALL, lambda record: record is not RELAX)
GRADIENT_METHODS = Records(_ALL, lambda record: record.needs_gradients)
PERTURBATION_METHODS = Records(
    _ALL, lambda record: record is not RELAX and not record.needs_gradients
)


def register_method(record):
    """Add a method of one's own; see `sklexplain.extending.register_method`."""
    return registered(_ALL, record)
