"""The scores by plain loops over samples, units and layers, in float64."""

import numpy as np
import torch

AGGREGATE = {
    "mean": lambda values: np.mean(values, axis=0),
    "abs": lambda values: np.mean(np.abs(values), axis=0),
    "var": lambda values: (
        np.var(values, axis=0, ddof=1) if len(values) > 1 else np.zeros_like(values[0])
    ),
}


def scaled(map_):
    low, high = map_.min(), map_.max()
    return np.zeros_like(map_) if high == low else (map_ - low) / (high - low)


def unit_maps(net, module, x, channel_agg, saliency="activation_x_gradient", channel_axis=0):
    """Maps of one sample, one backward pass a unit: (N, *spatial)."""
    kept = []

    def keep(_module, _inputs, output):
        kept.append(output[0] if isinstance(output, tuple) else output)

    handle = module.register_forward_hook(keep)
    z = net(torch.as_tensor(x)[None])[0].flatten()
    handle.remove()
    maps = []
    for unit in z:
        (gradient,) = torch.autograd.grad(unit, kept[-1], retain_graph=True)
        s = gradient if saliency == "gradient" else gradient * kept[-1]
        s = s[0].detach().numpy()
        if s.ndim == 1:  # every unit is a position
            s = s[None]
        maps.append(AGGREGATE[channel_agg](np.moveaxis(s, channel_axis if s.ndim > 1 else 0, 0)))
    return np.array(maps)


def noise_score(net, module, X, noise, channel_agg="abs", unit_agg="abs", **params):
    """N_p(x) of every sample."""

    def map_of(x):
        maps = unit_maps(net, module, x, channel_agg, **params)
        return scaled(AGGREGATE[unit_agg](maps))

    noise_maps = [map_of(x) for x in noise]
    return [np.mean([np.abs(map_of(x) - m).mean() for m in noise_maps]) for x in X]


def variance_score(net, module, X, channel_agg="mean", threshold=None, **params):
    """V_p(x) of every sample."""
    scores = []
    for x in X:
        maps = np.array([scaled(m) for m in unit_maps(net, module, x, channel_agg, **params)])
        if threshold is not None:
            maps = (maps > threshold) * 1.0
        scores.append(np.mean([np.var(v) for v in maps.reshape(len(maps), -1).T]))
    return scores
