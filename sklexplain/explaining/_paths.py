"""Gradient attributions as one sum: weighted gradients at points between a baseline and x.

Every method of the family is

    a(g, x) = sum_s w_s * m_s * grad g(r_s + t_s * (x - r_s) + e_s),

with a reference point r_s, a position t_s, a noise e_s, a weight w_s, and a factor m_s that is 1
or x - r_s. What differs is the table of (r, t, e, w), and it is common to all samples.
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch

from ._spread import Running


@dataclass
class Path:
    """The table of points; S points, K reference rows.

    Attributes
    ----------
    positions : tensor of shape (S,)
        t_s; 1 is the sample itself.
    weights : tensor of shape (S,)
        w_s.
    rows : tensor of shape (S,) of int64
        Which reference row is r_s.
    noise : tensor of shape (S, ...) or None
        e_s; behind preprocessing, times what it makes of noise at the sample.
    times_difference : bool
        Whether m_s is x - r_s.
    """

    positions: torch.Tensor
    weights: torch.Tensor
    rows: torch.Tensor
    noise: torch.Tensor | None = None
    times_difference: bool = True


def saliency_path():
    """Path of the plain gradient, at the sample itself."""
    one = torch.ones(1, dtype=torch.float64)
    return Path(one, one, torch.zeros(1, dtype=torch.int64), times_difference=False)


def input_x_gradient_path(n_rows):
    """Path of (x - baseline) times the gradient at x; the baseline rows are averaged."""
    one = torch.ones(n_rows, dtype=torch.float64)
    return Path(one, one / n_rows, torch.arange(n_rows))


def integrated_gradients_path(n_rows, n_steps):
    """Gauss-Legendre nodes on the straight line from every baseline row, averaged over rows."""
    nodes, weights = _gauss_legendre(n_steps)
    positions = torch.from_numpy((nodes + 1) / 2).repeat(n_rows)
    weights = torch.from_numpy(weights / 2).repeat(n_rows) / n_rows
    return Path(positions, weights, torch.arange(n_rows).repeat_interleave(n_steps))


@functools.lru_cache
def _gauss_legendre(n_steps):
    """Nodes and weights on [-1, 1]; computing them takes as long as a small batch."""
    return np.polynomial.legendre.leggauss(n_steps)


def expected_gradients_path(n_rows, n_samples, rng):
    """Random positions on the lines from random baseline rows (gradient SHAP)."""
    rows = torch.from_numpy(rng.randint(n_rows, size=n_samples))
    positions = torch.from_numpy(rng.uniform(size=n_samples))
    return Path(positions, torch.full((n_samples,), 1.0 / n_samples, dtype=torch.float64), rows)


def smooth_grad_path(n_samples, noise_std, rng, columns=None, n_columns=None):
    """Gradients at the sample plus noise, whose standard deviation is given for each entry."""
    # Entries behind preprocessing share the noise of the raw column that they are made of.
    if columns is None:
        noise = rng.normal(size=(n_samples, *noise_std.shape))
    else:
        noise = rng.normal(size=(n_samples, n_columns))[:, columns]
    noise = torch.from_numpy(noise * noise_std)
    one = torch.ones(n_samples, dtype=torch.float64)
    rows = torch.zeros(n_samples, dtype=torch.int64)
    return Path(one, one / n_samples, rows, noise=noise, times_difference=False)


def path_gradients(
    encode,
    x,
    references,
    cotangents,
    path,
    block_rows,
    squares=None,
    signs=None,
    spread=None,
    turned=None,
):
    """Attributions of several scalar functions <c_j, encode(.)> of each sample.

    Parameters
    ----------
    encode : callable
        (b, ...) to (b, N), differentiable.
    x : tensor of shape (n, ...)
        Samples.
    references : tensor of shape (n or 1, K, ...)
        Reference rows, each sample's own or common to all.
    cotangents : tensor of shape (n, k, N)
        c_j, held constant.
    path : Path
        The points.
    block_rows : int
        Most rows in the network at once.
    squares : tensor of shape (n, k) or None, default=None
        The weighted mean of the squared sums over entries of the single points' maps is added to
        it, for standard errors of paths drawn at random.
    signs : tensor of shape (n, ...) or None, default=None
        Signs of the derivatives of x by its raw columns. Noise goes the way that x goes with its
        column, and there is none where x goes nowhere.
    spread : Spread or None, default=None
        Is filled with standard errors of the maps' sums over features, of paths drawn at random.
    turned : callable or None, default=None
        From entries of samples, and gradients by them, to those in an orthonormal basis, in which
        maps are then: the points are the same in either.

    Returns
    -------
    maps : tensor of shape (n, k, ...)
        In the dtype of x.
    """
    n_points, turned = len(path.positions), turned or _same
    points_at_once = min(n_points, block_rows)
    samples_at_once = max(1, block_rows // points_at_once)
    out = x.new_zeros(len(x), cotangents.shape[1], *x.shape[1:])
    for i in range(0, len(x), samples_at_once):
        block = slice(i, i + samples_at_once)
        rows = references if len(references) == 1 else references[block]
        sums = None if squares is None else squares[block]
        ways = None if signs is None else signs[block]
        draws = None
        if spread is not None:
            draws = _Draws(spread, block)
        for j in range(0, n_points, points_at_once):
            part = slice(j, j + points_at_once)
            out[block] += _block(
                encode,
                x[block],
                rows,
                cotangents[block],
                path,
                part,
                sums,
                ways,
                turned or _same,
                draws,
            )
        if draws is not None:
            draws.leave(n_points)
    return out


class _Draws:
    """Maps at single points of some samples, in features."""

    def __init__(self, spread, rows):
        self.spread, self.rows = spread, rows
        self.running = Running(spread.errors[rows].shape, spread.errors.device)

    def add(self, k, before, maps):
        """Take maps (b, s, ...) of function k, of which points ``before`` have been taken."""
        everything = slice(None)
        features = self.spread.of_features(maps, self.rows)
        self.running.add((everything, k), before, features)

    def leave(self, n_points):
        """Fill these samples' part of the `Spread` in."""
        self.spread.part(self.rows).fill(self.running.errors(n_points), n_points - 1)


def _same(values):
    return values


def _block(encode, x, references, cotangents, path, part, squares, signs, turned, draws):
    """One block of samples at one block of points: (b, k, ...)."""
    ones = [1] * (x.dim() - 1)
    positions = path.positions[part].to(x).view(1, -1, *ones)
    rows = path.rows[part].to(x.device)
    # (b, s, ...): references are gathered only where they differ between points.
    single = references.shape[1] == 1
    reference = references if single else references[:, rows]
    difference = x[:, None] - reference
    if path.noise is None:
        points = reference + positions * difference
    else:
        noise = path.noise[part].to(x)
        points = x[:, None] + (noise if signs is None else noise * signs[:, None])
    shape = (len(x), points.shape[1])
    points = points.reshape(-1, *x.shape[1:]).requires_grad_()
    with torch.enable_grad():
        z = encode(points)
    weights = path.weights[part].to(x)
    maps = []
    n_functions = cotangents.shape[1]
    for k in range(n_functions):
        c = cotangents[:, k].repeat_interleave(shape[1], dim=0)
        (gradient,) = torch.autograd.grad(
            z, points, c.to(z), retain_graph=k < n_functions - 1, allow_unused=True
        )
        if gradient is None:  # the layer does not depend on the input
            maps.append(torch.zeros_like(x))
            continue
        gradient = gradient.view(*shape, *x.shape[1:])
        if path.times_difference and not single:
            gradient = turned(gradient) * turned(difference)
        if squares is not None:
            factor = difference if path.times_difference and single else 1.0
            sums = (gradient * factor).flatten(2).sum(dim=2)
            squares[:, k] += (sums**2 @ weights).to(squares)
        if draws is not None:
            draw = gradient
            if not path.times_difference:
                draw = turned(gradient)
            elif single:
                draw = turned(gradient) * turned(difference)
            draws.add(k, part.start, draw)
        maps.append(torch.einsum("s,bs...->b...", weights, gradient))
    maps = torch.stack(maps, dim=1)
    if not path.times_difference:
        return turned(maps)
    return turned(maps) * turned(difference) if single else maps
