"""Perturbation attributions as one sum: fixed coefficients times values at masked samples.

Feature ablation, occlusion, Shapley sampling, KernelSHAP and LIME with a ridge all evaluate the
explained function v(S) where the players in S keep their value and the others take the baseline's,
and all are linear in these values:

    a_p = sum_s C[p, s] * v(S_s).

The coalitions S_s and coefficients C depend on the method and the seed only, so they are common to
all samples and all units. A *player* is a feature, a group of features or a raw column.
"""

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ._spread import Masks, Nothing, PairedRegression, PairsOfOrders, Spread, WeightedRegression

# Values of coalitions that are kept at once for standard errors: 32 MB.
_MOST_VALUES = 2**22


@dataclass
class Design:
    """Coalitions and coefficients, given a block at a time.

    Attributes
    ----------
    n_coalitions : int
        S, the number of evaluations a sample (and baseline row) costs.
    n_outputs : int
        Number of attributions.
    block : callable
        ``block(start, stop)`` returns a boolean array (stop - start, n_players), True where a
        player keeps its value, and the float64 coefficients (n_outputs, stop - start).
    tally : callable or None
        Of designs that are drawn: returns what makes standard errors of a run's values.
    """

    n_coalitions: int
    n_outputs: int
    block: Callable
    tally: Callable | None = None


def _design(coalitions, coefficients, tally):
    return Design(
        len(coalitions),
        len(coefficients),
        lambda i, j: (coalitions[i:j], coefficients[:, i:j]),
        tally,
    )


def feature_ablation_design(n_players):
    """Value of all players minus the value without one: v(all) - v(all but p)."""

    def block(start, stop):
        index = np.arange(start, stop)
        coalitions = index[:, None] - 1 != np.arange(n_players)
        coefficients = np.where(coalitions.T, 0.0, -1.0)
        if start == 0:
            coefficients[:, 0] = 1.0
        return coalitions, coefficients

    return Design(n_players + 1, n_players, block)


def occlusion_design(shape, window, stride):
    """v(all) - v(all but a window), averaged over the windows that cover a feature."""
    starts = []
    for size, width, step in zip(shape, window, stride, strict=True):
        last = size - width
        starts.append(sorted({*range(0, last + 1, step), last}))
    corners = list(itertools.product(*starts))
    covered = np.zeros(shape)
    slices = [
        tuple(slice(c, c + w) for c, w in zip(corner, window, strict=True)) for corner in corners
    ]
    for where in slices:
        covered[where] += 1
    covered = covered.ravel()

    def block(start, stop):
        coalitions = np.ones((stop - start, *shape), dtype=bool)
        for row, index in enumerate(range(start, stop)):
            if index > 0:
                coalitions[(row, *slices[index - 1])] = False
        coalitions = coalitions.reshape(stop - start, -1)
        coefficients = np.where(coalitions.T, 0.0, -1.0 / covered[:, None])
        if start == 0:
            coefficients[:, 0] = 1.0
        return coalitions, coefficients

    return Design(len(corners) + 1, covered.size, block)


def shapley_sampling_design(n_players, n_permutations, rng):
    """Mean marginal contribution along random orders, each used forwards and backwards."""
    orders = [rng.permutation(n_players) for _ in range((n_permutations + 1) // 2)]
    orders = [o for order in orders for o in (order, order[::-1])][:n_permutations]
    n_each = n_players + 1

    def block(start, stop):
        coalitions = np.zeros((stop - start, n_players), dtype=bool)
        coefficients = np.zeros((n_players, stop - start))
        for row, index in enumerate(range(start, stop)):
            order, size = orders[index // n_each], index % n_each
            coalitions[row, order[:size]] = True
            if size > 0:
                coefficients[order[size - 1], row] += 1.0 / n_permutations
            if size < n_players:
                coefficients[order[size], row] -= 1.0 / n_permutations
        return coalitions, coefficients

    tally = functools.partial(PairsOfOrders, n_players, n_permutations)
    return Design(n_each * n_permutations, n_players, block, tally)


def kernel_shap_design(n_players, n_samples, rng):
    """Least squares with the Shapley kernel, under the constraint that attributions are complete.

    With A = Z'WZ and B = Z'W over the sampled coalitions z, the solution of
    min_a sum_z w(z) (v(z) - v(0) - z'a)^2 subject to 1'a = v(1) - v(0) is linear in v.
    All coalitions are used, exactly, where there are no more than ``n_samples``.

    Parameters
    ----------
    n_players : int
        Number of features.
    n_samples : int
        Number of coalitions.
    rng : numpy.random.Generator
        Draws the coalitions where not all are used.

    Returns
    -------
    design : Design

    Raises
    ------
    ValueError
        If so few coalitions cannot tell the features apart.
    """
    if n_players == 1:
        return _design(np.array([[False], [True]]), np.array([[-1.0, 1.0]]), Nothing)
    coalitions, weights = _shapley_coalitions(n_players, n_samples, rng)
    Z = coalitions.astype(np.float64)
    B = Z.T * weights
    A = B @ Z
    inverse = np.linalg.pinv(A, hermitian=True)
    rank = np.linalg.matrix_rank(A, hermitian=True)
    if rank < n_players:
        raise ValueError(
            f"kernel_shap with n_samples={n_samples} coalitions cannot tell {n_players} features "
            f"apart (rank {rank}); raise n_samples (by default {2 * n_players + 2048}) or set "
            "groups."
        )
    ones = np.ones(n_players)
    direction = inverse @ ones / (ones @ inverse @ ones)
    inner = inverse @ B
    inner -= np.outer(direction, ones @ inner)
    # Columns: the coalitions, nobody, everybody.
    empty = -inner.sum(axis=1) - direction
    coefficients = np.column_stack([inner, empty, direction])
    ends = np.vstack([np.zeros(n_players, dtype=bool), np.ones(n_players, dtype=bool)])
    tally = Nothing
    if not _has_all(n_players, n_samples):
        tally = functools.partial(PairedRegression, coalitions, inner)
    return _design(np.vstack([coalitions, ends]), coefficients, tally)


def _has_all(n_players, n_samples):
    """Whether all coalitions but nobody and everybody are used."""
    return n_players < 31 and 2**n_players - 2 <= n_samples


def _shapley_coalitions(n_players, n_samples, rng):
    if _has_all(n_players, n_samples):
        coalitions = np.array(list(itertools.product([False, True], repeat=n_players)))[1:-1]
        sizes = coalitions.sum(axis=1)
        counts = np.array([math.comb(n_players, s) for s in range(n_players + 1)])
        weights = (n_players - 1) / (counts[sizes] * sizes * (n_players - sizes))
        return coalitions, weights
    # Sizes are drawn from the kernel, so all draws weigh the same; complements come in pairs.
    sizes = np.arange(1, n_players)
    p = 1.0 / (sizes * (n_players - sizes))
    drawn = rng.choice(sizes, size=(n_samples + 1) // 2, p=p / p.sum())
    order = np.argsort(rng.uniform(size=(len(drawn), n_players)), axis=1)
    first = np.argsort(order, axis=1) < drawn[:, None]
    coalitions = np.stack([first, ~first], axis=1).reshape(-1, n_players)[:n_samples]
    return coalitions, np.ones(len(coalitions))


def lime_design(n_players, n_samples, kernel_width, alpha, rng):
    """Ridge regression on random coalitions, weighted by their closeness to the whole sample.

    A ridge, not a lasso: a lasso's solution is not linear in the explained function, and then
    the label-free form of the method would not be defined.

    Parameters
    ----------
    n_players : int
        Number of features.
    n_samples : int
        Number of coalitions.
    kernel_width : float
        The larger, the more weight have coalitions that leave out many features.
    alpha : float
        Strength of the ridge penalty.
    rng : numpy.random.Generator
        Draws the coalitions.

    Returns
    -------
    design : Design
    """
    Z = rng.uniform(size=(n_samples, n_players)) < 0.5
    Z[0] = True
    distance = 1 - np.sqrt(Z.mean(axis=1))  # cosine distance to the vector of ones
    weights = np.exp(-((distance / kernel_width) ** 2))
    weights /= weights.sum()
    centred = Z - weights @ Z
    weighted = centred.T * weights
    gram = weighted @ centred + (alpha / n_samples) * np.eye(n_players)
    coefficients = np.linalg.solve(gram, weighted)
    tally = functools.partial(WeightedRegression, centred, weights, coefficients)
    return _design(Z, coefficients, tally)


def relax_design(n_players, n_masks, relative, rng):
    """Mean value over random masks that keep a player (RELAX).

    Parameters
    ----------
    n_players : int
        Number of cells.
    n_masks : int
        Number of masks, each of which keeps a cell with probability 1/2.
    relative : bool
        Whether to subtract the mean over those that do not keep it.
    rng : numpy.random.Generator
        Draws the masks.

    Returns
    -------
    design : Design
        Its coefficients are NaN for players that no mask keeps (or all do, if relative).
    """
    masks = rng.uniform(size=(n_masks, n_players)) < 0.5
    counts = masks.sum(axis=0)[:, None].astype(np.float64)

    def block(start, stop):
        kept = masks[start:stop].T
        with np.errstate(invalid="ignore", divide="ignore"):
            coefficients = np.where(counts > 0, kept / counts, np.nan)
            if relative:
                others = n_masks - counts
                coefficients -= np.where(others > 0, ~kept / others, np.nan)
        return masks[start:stop], coefficients

    tally = functools.partial(Masks, masks, relative)
    return Design(n_masks, n_players, block, tally)


def masked_attributions(
    encode, x, references, cotangents, players, design, block_rows, spread=None
):
    """Attributions of several scalar functions <c_j, encode(.)> of each sample.

    Parameters
    ----------
    encode : callable
        (b, ...) to (b, N).
    x : tensor of shape (n, ...)
        Samples.
    references : tensor of shape (n or 1, K, ...)
        Reference rows; values are averaged over them.
    cotangents : tensor of shape (n, k, N)
        c_j.
    players : tensor of shape (...) of int64
        Which player each entry of a sample belongs to.
    design : Design
        Coalitions and coefficients.
    block_rows : int
        Most rows in the network at once.
    spread : Spread or None, default=None
        Is filled with standard errors of the attributions.

    Returns
    -------
    attributions : tensor of shape (n, k, n_outputs), float64
    """
    tally = None if spread is None else design.tally()
    if tally is not None and tally.keeps_values:
        most = max(1, _MOST_VALUES // (design.n_coalitions * cotangents.shape[1]))
        if most < len(x):
            parts = []
            for i in range(0, len(x), most):
                block = slice(i, i + most)
                rows = references if len(references) == 1 else references[block]
                args = x[block], rows, cotangents[block], players, design, block_rows
                parts.append(masked_attributions(encode, *args, spread.part(block)))
            return torch.cat(parts)
    n_references = references.shape[1]
    coalitions_at_once = max(1, min(design.n_coalitions, block_rows // n_references))
    samples_at_once = max(1, block_rows // (coalitions_at_once * n_references))
    shape = (len(x), cotangents.shape[1], design.n_outputs)
    out = torch.zeros(shape, dtype=torch.float64, device=x.device)
    if tally is not None:
        tally.start(shape, x.device)
    unit = 1 if tally is None else tally.unit
    for start, stop in _blocks(design.n_coalitions, coalitions_at_once, unit):
        kept, coefficients = design.block(start, stop)
        kept = torch.from_numpy(kept).to(x.device)[:, players.to(x.device)][None, :, None]
        coefficients = torch.from_numpy(np.ascontiguousarray(coefficients.T)).to(x.device)
        for i in range(0, len(x), samples_at_once):
            block = slice(i, i + samples_at_once)
            rows = references if len(references) == 1 else references[block]
            keep, of = kept, None
            if samples_at_once == 1:
                keep, of = _distinct(kept, x[i], rows[0])
            # (b, coalitions, K, ...)
            rows = torch.where(keep, x[block, None, None], rows[:, None])
            z = encode(rows.flatten(0, 2)).to(torch.float64)
            z = z.view(*rows.shape[:3], -1).mean(dim=2)
            values = torch.einsum("bsn,bkn->bks", z, cotangents[block].to(z))
            values = values if of is None else values[:, :, of]
            out[block] += values @ coefficients
            if tally is not None:
                tally.add(block, start, stop, values, coefficients)
    if tally is not None:
        tally.leave(spread, out)
    return out


def _blocks(n, at_once, unit):
    """Ranges of at most so many numbers below n, each of whole units or within one."""
    if at_once >= n:
        return [(0, n)]
    if at_once >= unit:
        at_once -= at_once % unit
        return [(i, min(i + at_once, n)) for i in range(0, n, at_once)]
    ends = [(i, min(i + unit, n)) for i in range(0, n, unit)]
    return [(i, min(i + at_once, end)) for first, end in ends for i in range(first, end, at_once)]


def masked_attributions_of_present(
    encode,
    x,
    references,
    cotangents,
    players,
    n_players,
    design,
    block_rows,
    differs=None,
    spread=None,
):
    """Attributions among the players of each sample that differ from its baseline.

    The others change nothing and get 0: the words that are not in a text, for example. So no
    coalitions are spent on them, and none of their noise is left.

    Parameters
    ----------
    encode, x, references, cotangents, players, block_rows, spread
        See `masked_attributions`.
    n_players : int
        How many there are.
    design : callable
        From a number of players to a `Design`.
    differs : tensor of shape (n, ...) of bool or None, default=None
        Which entries of the samples are not as in the baseline; None: those that are not equal.

    Returns
    -------
    attributions : tensor of shape (n, k, n_players), float64
    """
    flat = players.to(x.device).flatten()
    if differs is None:
        differs = (x[:, None] != references).any(dim=1)
    present = torch.zeros(len(x), n_players, dtype=torch.int64, device=x.device)
    present.index_add_(1, flat, differs.flatten(1).to(torch.int64))
    patterns, of = torch.unique(present > 0, dim=0, return_inverse=True)
    shape = (len(x), cotangents.shape[1], n_players)
    out = torch.zeros(shape, dtype=torch.float64, device=x.device)
    for number, pattern in enumerate(patterns):
        chosen = pattern.nonzero()[:, 0]
        if not len(chosen):
            continue
        rows = (of == number).nonzero()[:, 0]
        # Entries of players that are not present are as in the baseline either way.
        renumbered = (pattern.cumsum(0) - 1).clamp_min(0)[flat].view(players.shape)
        size = len(rows), shape[1], len(chosen)
        part = None if spread is None else Spread(size, x.device)
        found = masked_attributions(
            encode,
            x[rows],
            references if len(references) == 1 else references[rows],
            cotangents[rows],
            renumbered,
            design(len(chosen)),
            block_rows,
            part,
        )
        where = rows[:, None, None], torch.arange(shape[1])[:, None].to(rows), chosen
        out[where] = found
        if part is not None:
            spread.errors[where], spread.degrees[where] = part.errors, part.degrees
    return out


def _distinct(kept, x, references):
    """Coalitions that make different rows of a sample: where it is as the baseline, all are alike.

    Most words are not in a text, and most pixels of a digit are black: those that a baseline of
    zeros leaves as they are need not be taken out one by one.

    Parameters
    ----------
    kept : tensor of shape (1, S, 1, ...) of bool
        Entries that keep their value, for each coalition.
    x : tensor of shape (...)
        The sample.
    references : tensor of shape (K, ...)
        Its baseline rows.

    Returns
    -------
    kept : tensor of shape (1, D, 1, ...) of bool
        The same without repetitions.
    of : tensor of shape (S,) of int64 or None
        Which of them each coalition is; None: nothing was left out.
    """
    differs = (x != references).any(dim=0).flatten()
    if 2 * int(differs.sum()) > len(differs):
        return kept, None  # few repetitions, if any, for the price of looking for them
    if not differs.any():  # the sample is its baseline
        return kept[:, :1], torch.zeros(kept.shape[1], dtype=torch.int64, device=kept.device)
    flat = kept[0, :, 0].flatten(1)
    patterns, of = torch.unique(flat[:, differs], dim=0, return_inverse=True)
    first = torch.zeros(len(patterns), dtype=torch.int64, device=kept.device)
    first[of] = torch.arange(len(of), device=kept.device)
    return kept[:, first], of
