"""Per-sample gradients in several parameters: a dict with one term for each parameter."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch

from ..utils import normal
from ._terms import Explicit, Outer, common_terms, same_kind
from ._typing import Term, Terms

_N_BLOCKS, _MIN_BLOCK = 8, 64  # blocks of a symmetric matrix, of which half is computed
_FEW_SUMS = 4  # at most so many sums are computed without explicit gradients
_ENTRY_BYTES = 8  # of a number, at most
_CHUNK = 4096  # rows of the random projection drawn at once; part of what a seed means


def join_terms(parts: Sequence[Terms]) -> dict[str, Term]:
    """Stack the gradients of several batches.

    Parameters
    ----------
    parts : list of dict of str to term
        What `per_sample_gradients` returned.

    Returns
    -------
    terms : dict of str to term
    """
    joined = {}
    for name in parts[0]:
        first, *others = common_terms([part[name] for part in parts])
        joined[name] = first.joined(others)
    return joined


def joins_within(parts: Sequence[Terms], max_bytes: int) -> bool:
    """Tell whether the gradients of several batches can be stacked in little memory.

    Gradients in the same form are as large as they were; those in several forms become explicit,
    which may be far more.

    Parameters
    ----------
    parts : list of dict of str to term
        What `per_sample_gradients` returned.
    max_bytes : int
        About the largest size of what becomes explicit.

    Returns
    -------
    joins : bool
    """
    first, n_rows, n_entries = parts[0], sum(map(_length, parts)), 0
    for name, term in first.items():
        if not all(same_kind(term, part[name]) for part in parts[1:]):
            n_entries += n_rows * term.size
    return n_entries * _ENTRY_BYTES <= max_bytes


def _length(terms: Terms) -> int:
    return len(next(iter(terms.values())))


def interleave_terms(parts: Sequence[Terms], n_each: int = 1) -> dict[str, Term]:
    """Put several sets of gradients of the same samples together, sample by sample.

    Parameters
    ----------
    parts : list of dict of str to term
        k sets of n gradients.
    n_each : int, default=1
        Number of gradients that each set has of one sample, in a row.

    Returns
    -------
    terms : dict of str to term
        n · k gradients: the first sample's of every set, then the second's.
    """
    interleaved = {}
    for name in parts[0]:
        first, *others = common_terms([part[name] for part in parts])
        interleaved[name] = first.interleaved(others, n_each)
    return interleaved


def flatten_terms(terms: Terms) -> torch.Tensor:
    """Explicit gradients in all parameters side by side.

    Parameters
    ----------
    terms : dict of str to term
        What `per_sample_gradients` returned.

    Returns
    -------
    gradients : torch.Tensor of shape (n, p)
    """
    return torch.cat([term.values for term in terms.values()], dim=1)


def gram_matrix(first: Terms, second: Terms, max_bytes: int = 2**28) -> torch.Tensor:
    """Inner products of all gradients of two sets, without the explicit gradients.

    Parameters
    ----------
    first, second : dict of str to term
        What `per_sample_gradients` returned, in the same parameters.
    max_bytes : int, default=2**28
        About the largest size of intermediate results.

    Returns
    -------
    gram : torch.Tensor of shape (n_first, n_second)
    """
    both = [n for n, t in first.items() if isinstance(t, Explicit) and _explicit(second, n)]
    pairs = [(t, second[n]) for n, t in first.items() if n not in both]
    if both:  # one product of matrices instead of several
        pairs.append((_side_by_side(first, both), _side_by_side(second, both)))
    return _sum(_gram(ours, theirs, max_bytes) for ours, theirs in pairs)


def _sum(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    return cast(torch.Tensor, sum(tensors))  # 0 of none


def _explicit(terms: Terms, name: str) -> bool:
    return isinstance(terms[name], Explicit)


def _side_by_side(terms: Terms, names: list[str]) -> Explicit:
    return Explicit(torch.cat([terms[n].values for n in names], dim=1))


def own_gram_matrix(terms: Terms, max_bytes: int = 2**28) -> torch.Tensor:
    """Inner products of all gradients of a set, each computed once.

    Parameters
    ----------
    terms : dict of str to term
        What `per_sample_gradients` returned.
    max_bytes : int, default=2**28
        About the largest size of intermediate results.

    Returns
    -------
    gram : torch.Tensor of shape (n, n)
        Symmetric to the bit.
    """
    explicit = [t for t in terms.values() if _is_multiplied_out(t)]
    factored = [t for t in terms.values() if not _is_multiplied_out(t)]
    n = len(next(iter(terms.values())))
    sharing = max(t.n_sharing if isinstance(t, Outer) else 1 for t in terms.values())
    step = max(_MIN_BLOCK, -(-n // _N_BLOCKS))
    step = -(-step // sharing) * sharing  # samples stay whole
    blocks = [slice(i, min(i + step, n)) for i in range(0, n, step)]
    pairs = [(rows, columns) for i, rows in enumerate(blocks) for columns in blocks[i:]]
    out: Any = None
    # Every explicit gradient is computed once, a few columns at a time.
    for part in _wide_parts(explicit, n, max_bytes):
        out = part.new_zeros(n, n) if out is None else out
        for rows, columns in pairs:
            out[rows, columns].addmm_(part[rows], part[columns].T)
    for term in factored:
        for rows, columns in pairs:
            block = term[rows].gram(term[columns], max_bytes)
            out = block.new_zeros(n, n) if out is None else out
            out[rows, columns] += block
    for rows, columns in pairs:
        if rows == columns:
            out[rows, rows] = (out[rows, rows] + out[rows, rows].T) / 2
        else:
            out[columns, rows] = out[rows, columns].T
    return out


def _is_multiplied_out(term: Term) -> bool:
    """Tell whether inner products of a set take fewer multiplications by explicit gradients."""
    return isinstance(term, Explicit) or (
        isinstance(term, Outer) and term.is_cheaper_explicit(term)
    )


def _wide_parts(terms: Iterable[Term], n: int, max_bytes: int) -> Iterator[torch.Tensor]:
    """Yield columns of explicit gradients, in several parameters together if there are few."""
    kept: list[torch.Tensor] = []
    n_bytes = 0
    for term in terms:
        for _, part in term.chunks(max_bytes):
            if kept and n_bytes + part.nbytes > max_bytes:
                yield torch.cat(kept, dim=1)
                kept, n_bytes = [], 0
            kept.append(part)
            n_bytes += part.nbytes
    if kept:
        yield torch.cat(kept, dim=1)


def _gram(first: Term, second: Term, max_bytes: int) -> torch.Tensor:
    if same_kind(first, second):
        return first.gram(second, max_bytes)
    if not isinstance(first, Explicit):
        if isinstance(second, Explicit):
            return _gram(second, first, max_bytes).T
        first = Explicit(first.values)
    # One set is explicit: of sums over many positions, or of samples that take another way.
    pairs = second.chunks(max_bytes)
    return _sum(first.values[:, columns] @ part.T for columns, part in pairs)


def multiply_terms(terms: Terms, vectors: torch.Tensor, max_bytes: int = 2**28) -> torch.Tensor:
    """Inner products of gradients with vectors.

    Parameters
    ----------
    terms : dict of str to term
        What `per_sample_gradients` returned.
    vectors : torch.Tensor of shape (k, p)
        Vectors, in the order of the parameters.
    max_bytes : int, default=2**28
        About the largest size of intermediate results.

    Returns
    -------
    products : torch.Tensor of shape (n, k)
    """
    return _sum(part @ vectors[:, columns].T for columns, part in _all_chunks(terms, max_bytes))


def combine_terms(weights: torch.Tensor, terms: Terms, max_bytes: int = 2**28) -> torch.Tensor:
    """Sum gradients with weights, several times.

    Parameters
    ----------
    weights : torch.Tensor of shape (k, n)
        Weights.
    terms : dict of str to term
        What `per_sample_gradients` returned.
    max_bytes : int, default=2**28
        About the largest size of intermediate results.

    Returns
    -------
    sums : torch.Tensor of shape (k, p)
    """
    sums = []
    for term in terms.values():
        if isinstance(term, Outer) and len(weights) <= _FEW_SUMS:
            sums.append(term.combined(weights))
        else:
            sums += [weights @ part for _, part in term.chunks(max_bytes)]
    return torch.cat(sums, dim=1)


def _all_chunks(terms: Terms, max_bytes: int) -> Iterator[tuple[slice, torch.Tensor]]:
    start = 0
    for term in terms.values():
        for columns, part in term.chunks(max_bytes):
            yield slice(start + columns.start, start + columns.stop), part
        start += term.size


def squared_norms(terms: Terms, max_bytes: int = 2**28) -> torch.Tensor:
    """Squared length of every gradient.

    Parameters
    ----------
    terms : dict of str to term
        What `per_sample_gradients` returned.
    max_bytes : int, default=2**28
        About the largest size of intermediate results.

    Returns
    -------
    squares : torch.Tensor of shape (n,)
    """
    return _sum(part.square().sum(dim=1) for t in terms.values() for _, part in t.chunks(max_bytes))


def terms_bytes(terms: Terms) -> int:
    """Bytes that gradients hold.

    Parameters
    ----------
    terms : dict of str to term
        What `per_sample_gradients` returned.

    Returns
    -------
    n_bytes : int
    """
    return sum(term.n_bytes for term in terms.values())


def project_terms(terms: Terms, n_dims: int, seed: int, max_bytes: int = 2**28) -> dict[str, Term]:
    r"""Project gradients to a fixed number of dimensions, the same way for all of a seed.

    With the entries of R independent and normal of variance 1 / n_dims, inner products of projected
    gradients are those of the gradients in expectation, with a standard deviation of at most
    :math:`\sqrt{2 / n_\mathrm{dims}}` times the product of the lengths.

    Parameters
    ----------
    terms : dict of str to term
        What `per_sample_gradients` returned.
    n_dims : int
        Number of dimensions.
    seed : int
        Determines R.
    max_bytes : int, default=2**28
        About the largest size of intermediate results.

    Returns
    -------
    terms : dict of str to Explicit
        With one entry, of size ``n_dims``.
    """
    out: Any = None
    for number, term in enumerate(terms.values()):
        # R's rows are as many as the chunk's columns.
        chunk_bytes = min(max_bytes, max_bytes * len(term) // n_dims)
        for columns, part in term.chunks(chunk_bytes):
            rows = _projection(number, columns, n_dims, seed).to(part.device, part.dtype)
            out = part @ rows if out is None else out + part @ rows
    return {"projection": Explicit(out / math.sqrt(n_dims))}


def _projection(number: int, columns: slice, n_dims: int, seed: int) -> torch.Tensor:
    """Rows of the random matrix, drawn in pieces that do not depend on the chunks asked for."""
    first, last = columns.start // _CHUNK, -(-columns.stop // _CHUNK)
    pieces = []
    for piece in range(first, last):
        generator = torch.Generator().manual_seed((seed * 1009 + number) * 65537 + piece)
        pieces.append(normal(generator, _CHUNK, n_dims))
    start = columns.start - first * _CHUNK
    return torch.cat(pieces)[start : start + columns.stop - columns.start]


def scale_terms(terms: Terms, factors: Mapping[str, float] | None) -> Terms:
    """Multiply gradients with a number for each parameter.

    Parameters
    ----------
    terms : dict of str to term
        What `per_sample_gradients` returned.
    factors : dict of str to float or None
        By parameter; None changes nothing.

    Returns
    -------
    terms : dict of str to term
    """
    if factors is None:
        return terms
    return {name: term.scaled(factors[name]) for name, term in terms.items()}


def double_terms(terms: Terms) -> dict[str, Term]:
    """Convert gradients to float64.

    Parameters
    ----------
    terms : dict of str to term
        What `per_sample_gradients` returned.

    Returns
    -------
    terms : dict of str to term
    """
    return {name: term.double() for name, term in terms.items()}
