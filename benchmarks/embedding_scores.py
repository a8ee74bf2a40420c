"""Noise and variance scores of several saliencies and aggregators from one pass of gradients.

`NoiseScorer` and `VarianceScorer` take one saliency and one pair of aggregators each. Here their
functions are applied to the same gradients for all that are wanted, which costs one of them; tests
hold the results against the scorers'.
"""

import numpy as np
import torch

from sklexplain.layers import aggregate, find_points
from sklexplain.layers._jacobian import unit_gradients
from sklexplain.layers._maps import channel_maps
from sklexplain.scores._functions import UnitVariance, min_max_scaled, noise_scores
from sklexplain.scores._sampling import standard_error


class Scorer:
    """Scores of one network at layers.

    Parameters
    ----------
    net : nn.Module
        In eval mode, from samples to the embedding; its parameters stop requiring a gradient.
    layers : list of str
        Looked at by what they are called with.
    x : ndarray of shape (n, ...)
        A sample or more, to find the layers.
    sample : UnitSample or None, default=None
        Random units to score by; None: all.
    batch_size : int, default=16
        Samples at once.
    device : str, default="cpu"
        Where the network is, and is run; scores are numpy's.
    """

    def __init__(self, net, layers, x, *, sample=None, batch_size=16, device="cpu"):
        self.net = net.requires_grad_(False)
        self.device = device
        modules = dict(net.named_modules())
        x = torch.as_tensor(x[:1]).to(device)
        self.points = find_points(net, x, modules, layers=layers, at="input")
        self.sample = sample
        self.batch_size = batch_size
        # Positions among the units: all that are used, then each half of those drawn.
        self.subsets = [slice(None), *(sample.halves if sample else ())]

    @property
    def units(self):
        """The units that are used; None: all."""
        return self.sample.units if self.sample else None

    def unit_maps(self, X, wanted):
        """Maps of single units, batch by batch.

        Parameters
        ----------
        X : ndarray of shape (n, ...)
            Samples.
        wanted : iterable of (saliency, C)
            Saliencies and aggregators over channels.

        Yields
        ------
        maps : dict of (saliency, C) to list of tensor of shape (n_units, b, n_positions)
            One a layer.
        """
        for x in torch.as_tensor(X).split(self.batch_size):
            x = x.to(self.device)
            found = {key: [[] for _ in self.points] for key in wanted}
            for _, gradients, activations in unit_gradients(
                self.net, self.points, x, units=self.units, rows=1024
            ):
                for i, (g, a) in enumerate(zip(gradients, activations, strict=True)):
                    for key, blocks in found.items():
                        blocks[i].append(channel_maps(g, a, *key).flatten(2))
            yield {key: [torch.cat(blocks) for blocks in layers] for key, layers in found.items()}

    def scaled_maps(self, X, combinations):
        """Maps of all units, scaled to [0, 1].

        Parameters
        ----------
        X : ndarray of shape (n, ...)
            Samples.
        combinations : list of (saliency, C, E)

        Returns
        -------
        maps : dict of combination to list of tensor of shape (n_subsets, n, n_positions)
            One a layer; from all units that are used, then from each half.
        """
        wanted = {c[:2] for c in combinations}
        batches = [self._aggregated(maps, combinations) for maps in self.unit_maps(X, wanted)]
        return {
            c: [torch.cat(parts, dim=1) for parts in zip(*(b[c] for b in batches), strict=True)]
            for c in combinations
        }

    def _aggregated(self, maps, combinations):
        return {
            (saliency, channel_agg, unit_agg): [
                torch.stack(
                    [min_max_scaled(aggregate(m[s], unit_agg, 0)) for s in self.subsets]
                ).cpu()
                for m in maps[saliency, channel_agg]
            ]
            for saliency, channel_agg, unit_agg in combinations
        }

    def variance(self, X, saliency, channel_agg, threshold):
        """Variance scores, (n_subsets, n, n_layers)."""
        batches = [
            np.array(
                [
                    [self._variance(m[s], threshold) for m in maps[saliency, channel_agg]]
                    for s in self.subsets
                ]
            )
            for maps in self.unit_maps(X, [(saliency, channel_agg)])
        ]
        return np.concatenate(batches, axis=2).swapaxes(1, 2)

    def _variance(self, maps, threshold):
        scores = UnitVariance(threshold).add(maps).scores().cpu().numpy()
        if self.sample is None:
            return scores
        n, total = len(maps), self.sample.n_total
        return np.minimum(scores * n / (n - 1) * (total - 1) / total, 0.25)

    def error(self, scores):
        """Standard errors from drawing units: (n_subsets, ...) to (...)."""
        if self.sample is None:
            return np.zeros(scores.shape[1:])
        return standard_error(scores[0], scores[1:], self.sample)


def against(maps, noise_maps):
    """Noise scores of scaled maps, a list over the layers each: (n_subsets, n, n_layers)."""
    pairs = zip(maps, noise_maps, strict=True)
    return np.stack([noise_scores(m, noise).numpy() for m, noise in pairs], axis=-1)


def noise_curves(scorer, X, noise, combinations):
    """Noise scores and their benchmarks.

    Parameters
    ----------
    scorer : Scorer
    X : ndarray of shape (n, ...)
        Samples.
    noise : ndarray of shape (2 * n_noise, ...)
        Noise inputs: the first half for the scores, the second to be compared with it.
    combinations : list of (saliency, C, E)

    Returns
    -------
    curves : dict of combination to (scores, benchmark)
        ndarrays of shape (n_subsets, n, n_layers) and (n_subsets, n_layers).
    """
    n = len(noise) // 2
    maps, noise_maps = (scorer.scaled_maps(x, combinations) for x in (X, noise))
    curves = {}
    for c in combinations:
        first = [m[:, :n] for m in noise_maps[c]]
        second = [m[:, n:] for m in noise_maps[c]]
        curves[c] = against(maps[c], first), against(first, second).mean(axis=1)
    return curves
