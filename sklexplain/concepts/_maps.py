"""Maps of where in a sample its concepts come from."""

import numpy as np
import torch

from ..explaining import (
    METHODS,
    AttributionEngine,
    Features,
    check_gradients,
    check_operations,
    checked_params,
    fitted_baseline,
    own_baselines,
    raw_baselines,
    warn_of_unreached,
)
from ..representation import no_gradient_reason
from ..utils import check_choice, numpy_dtype_of
from ._excitation import excitation_maps

EXCITATION = "excitation_backprop"


def concept_maps(explainer, X, method, method_params, baseline, *, concepts=None):
    """Attributions of every concept.

    Parameters
    ----------
    explainer : SRAEExplainer or SparseDictionary
        Fitted; the ``encode`` of its module is what is explained.
    X : array-like
        Samples.
    method, method_params, baseline
        See `LabelFreeAttributor`.
    concepts : ndarray of int or None, default=None
        Which concepts; None: all.

    Returns
    -------
    maps : ndarray of shape (n, n_concepts, *X.shape[1:])

    Raises
    ------
    TypeError
        If the method needs gradients and there are none.
    ValueError
        If the method is unknown, or is excitation backprop and the network has other
        nonlinearities than ReLU and pooling.

    Warns
    -----
    ConvergenceWarning
        If attributions of a complete method miss their sum by more than 5 % for some samples.
    UnreachedInputWarning
        If the method needs gradients and none reaches some inputs that the concepts depend on.
    """
    check_choice("method", method, [*METHODS, *explainer._more_map_methods])
    if method not in METHODS and method_params:
        raise ValueError(f"method_params={method_params}: method={method!r} has no parameters.")
    with explainer._opened(X) as (inputs, X):
        if method not in METHODS:
            return _excitation(explainer, inputs)
        params = checked_params(method, method_params)
        return _attributions(explainer, inputs, X, method, params, baseline, concepts)


def baseline_concepts(explainer, X, baseline):
    """Concepts of the baseline, from which maps count.

    Parameters
    ----------
    explainer : SRAEExplainer or SparseDictionary
        Fitted.
    X : array-like
        Samples, of which each may have its own.
    baseline : object
        See `LabelFreeAttributor`.

    Returns
    -------
    concepts : ndarray of shape (n, n_concepts)
        Of several rows the mean.
    """
    with explainer._opened(X) as (inputs, X):
        representation = explainer._representation
        rows = _baseline_rows(explainer, baseline)
        if rows is None:
            rows = raw_baselines(baseline, representation, X)
            if callable(rows):
                rows = own_baselines(rows, representation.restored(inputs))
            return explainer._encoded(np.asarray(rows))
        concepts = explainer._encoded(rows).mean(axis=0, dtype=np.float64)
        return np.tile(concepts, (len(inputs), 1))


def _baseline_rows(explainer, baseline):
    data = explainer._data
    return fitted_baseline(
        baseline,
        explainer._representation,
        data.background,
        mean=data.mean,
        input_shape=explainer.input_shape_,
        seed=explainer.seed_,
        estimator=explainer,
    )


def _attributions(explainer, inputs, X, method, params, baseline, concepts):
    representation, data = explainer._representation, explainer._data
    tap, module = explainer._tap, explainer.net_.module_
    batch_size, seed = explainer._params_at_fit.batch_size, explainer.seed_

    def encode(x):
        values = module.encode(tap(x)).to(representation.output_dtype)
        return values if concepts is None else values[:, concepts]

    needs_gradients = METHODS[method].needs_gradients
    if needs_gradients and not _is_differentiable(representation, encode, data.background):
        check_gradients(method, no_gradient_reason(representation))
    check_operations(method, representation.hidden)
    rows = _baseline_rows(explainer, baseline)
    features = Features(explainer.input_shape_, representation.head)
    limits = np.stack([data.low, data.high])  # whose ranges are those of the data
    engine = AttributionEngine(method, params, limits, features, baseline=rows, seed=seed)
    if needs_gradients:
        names = getattr(explainer, "feature_names_in_", None)
        sizes = {"batch_size": batch_size, "seed": seed}
        warn_of_unreached(representation, data.background, names, encode=encode, **sizes)

    def every_concept(rows, z, z_ref):
        return torch.eye(z.shape[1], dtype=z.dtype, device=z.device).expand(len(z), -1, -1)

    return engine.maps(
        representation,
        inputs,
        every_concept,
        encode=encode,
        batch_size=batch_size,
        own_baseline=raw_baselines(baseline, representation, X) if rows is None else None,
        slopes=representation.slopes(X) if METHODS[method].in_raw_slope else None,
        verbose=explainer.verbose,
    )


def _is_differentiable(representation, encode, inputs):
    """Whether gradients pass from the input to the concepts, even if not to the output."""
    if representation.takes_integers or representation.differentiable:
        return representation.differentiable
    if representation.probe.quantised:
        return False
    reached = []
    with representation.session(), torch.enable_grad():
        hooked = representation.boxes
        handles = [box.register_forward_pre_hook(lambda *_: reached.append(1)) for box in hooked]
        try:
            z = encode(representation.tensor(inputs[:2]).clone().requires_grad_())
        finally:
            for handle in handles:
                handle.remove()
    return z.requires_grad and not reached


def _excitation(explainer, inputs):
    representation = explainer._representation
    if representation.probe.quantised:
        reason = no_gradient_reason(representation)
        raise TypeError(f"method={EXCITATION!r} needs the layers' operations, but {reason}.")
    features = Features(explainer.input_shape_, representation.head)
    dtype = numpy_dtype_of(representation.output_dtype)

    def run(block):
        x = representation.tensor(inputs[block])
        parts = excitation_maps(explainer._tap, explainer.net_.module_, x)
        return features.sums(parts.cpu().numpy()).astype(dtype, copy=False)

    def most_rows():
        return explainer._params_at_fit.batch_size

    with representation.session():
        blocks = representation.in_blocks(run, len(inputs), most_rows(), most_rows)
        return np.concatenate([maps for _, maps in blocks])
