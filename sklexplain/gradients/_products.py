r"""Products with a Gauss–Newton matrix, :math:`J^\top L L^\top J`, from the factors of J's rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeGuard, cast

import torch

from ..utils import SavedAsArrays
from ._narrow import Narrow, narrow_terms
from ._sets import join_terms
from ._terms import Outer
from ._typing import Term, Terms

_CHUNK_BYTES = 2**26  # explicit gradients and intermediate results at once
_MULTIPLYING_OUT = 3  # times as long as its multiplications: what it makes is large
_ROWS_A_SUM = 8  # of a sketch


class FactorProducts(SavedAsArrays):
    r"""Multiplies vectors with :math:`C = J^\top L L^\top J`, L block-diagonal.

    J has a few rows for every training example, as factors. They are multiplied out for a few
    examples at a time, where that takes fewer multiplications for as many vectors as there are,
    and used for both J and its transpose.

    Parameters
    ----------
    jacobian : dict of str to term
        J, n · n_draws · size rows.
    roots : torch.Tensor of shape (n, n_draws, size, size)
        L; float64.
    """

    def __init__(self, jacobian: Terms, roots: torch.Tensor) -> None:
        self._jacobian = jacobian
        kept = next(iter(jacobian.values()))
        dtype = (kept.b if hasattr(kept, "b") else kept.values).dtype
        self._roots = roots.to(dtype)

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        """Multiply vectors (k, p) with C; the result is in their dtype."""
        sides = self._sides(len(vectors))
        pieces = vectors.to(self._roots.dtype).split(
            [t.size for t in self._jacobian.values()], dim=1
        )
        pieces = [side.prepared(v) for side, v in zip(sides, pieces, strict=True)]
        totals = [torch.zeros_like(piece) for piece in pieces]
        for rows, roots in self._chunks(len(vectors)):
            parts = [side.of(rows) for side in sides]
            products = (p.through(v) for p, v in zip(parts, pieces, strict=True))
            inside = cast(torch.Tensor, sum(products))
            shape = inside.shape
            inside = inside.view(len(roots), -1, shape[1])
            inside = (roots @ (roots.transpose(1, 2) @ inside)).view(shape)
            for part, total in zip(parts, totals, strict=True):
                part.add_back(inside, total)
        back = [side.restored(t) for side, t in zip(sides, totals, strict=True)]
        return torch.cat(back, dim=1).to(vectors.dtype)

    def narrowed(self, generator: torch.Generator) -> tuple[FactorProducts, Narrow | None]:
        """Return products in a smaller space, and that space: see `narrow_terms`."""
        terms, narrow = narrow_terms(self._jacobian, generator)
        return (self, None) if narrow is None else (FactorProducts(terms, self._roots), narrow)

    def sketch(self, n_vectors: int, generator: torch.Generator) -> torch.Tensor:
        r"""Sum some rows of :math:`L^\top J` in random groups, with random signs.

        Parameters
        ----------
        n_vectors : int
            Number of groups.
        generator : torch.Generator
            Of the groups and signs.

        Returns
        -------
        vectors : torch.Tensor of shape (n_vectors, p)
            They span most of what the largest eigenvectors of C do.
        """
        n, n_draws, size, _ = self._roots.shape
        n_chosen = min(n, -(-_ROWS_A_SUM * n_vectors // (n_draws * size)))
        chosen = torch.randperm(n, generator=generator)[:n_chosen].sort().values
        n_rows = n_chosen * n_draws * size
        group = torch.randint(n_vectors, (n_rows,), generator=generator).to(self._roots.device)
        signs = torch.randint(2, (n_rows,), generator=generator).to(self._roots) * 2 - 1
        roots = self._roots[chosen.to(self._roots.device)].flatten(0, 1)
        roots = roots * signs.view(len(roots), 1, size)
        rows = torch.arange(n * n_draws * size).view(n, -1)[chosen].view(len(roots), size)
        out = []
        for term in self._jacobian.values():
            total = self._roots.new_zeros(n_vectors, term.size)
            step = max(1, _CHUNK_BYTES // (term.size * size * total.element_size()))
            for i in range(0, len(roots), step):
                part = term[rows[i : i + step].flatten()].values.unflatten(0, (-1, size))
                part = roots[i : i + step].transpose(1, 2) @ part
                total.index_add_(0, group[i * size : (i + step) * size], part.flatten(0, 1))
            out.append(total)
        return torch.cat(out, dim=1)

    def _sides(self, n_vectors: int) -> list[_Explicit | _Factored]:
        return [_side(term, n_vectors) for term in self._jacobian.values()]

    def _chunks(self, n_vectors: int) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield rows of a few samples, and the roots between them."""
        n, n_draws, size, _ = self._roots.shape
        widest = max(_entries(term, n_vectors) for term in self._jacobian.values())
        row_bytes = max(1, widest * self._roots.element_size())
        step = max(1, _CHUNK_BYTES // (row_bytes * n_draws * size))
        for first in range(0, n, step):
            roots = self._roots[first : first + step].flatten(0, 1)
            start = first * n_draws * size
            yield slice(start, start + len(roots) * size), roots


def _side(term: Term, n_vectors: int) -> _Explicit | _Factored:
    return _Factored(term) if _is_factored(term, n_vectors) else _Explicit(term)


def _is_factored(term: Term, n_vectors: int) -> TypeGuard[Outer]:
    """Whether products take fewer multiplications by factors than by explicit gradients."""
    if not isinstance(term, Outer):
        return False
    length, width, k = term.a.shape[2], term.b.shape[3], term.n_sharing
    area = term.a.shape[3] * width
    explicit = k * area * (_MULTIPLYING_OUT * length + 2 * n_vectors)
    return 2 * n_vectors * length * (area + k * width) < explicit


def _entries(term: Term, n_vectors: int) -> int:
    """Numbers that a row takes while it is multiplied with vectors."""
    if not _is_factored(term, n_vectors):
        return max(term.size, n_vectors)
    inside = term.a.shape[2] * term.b.shape[3] * n_vectors  # of one group, shared
    return max(term.a.shape[2] * term.a.shape[3], inside) // term.n_sharing + n_vectors


class _Explicit:
    """One parameter's rows, multiplied out."""

    def __init__(self, term: Term, values: torch.Tensor | None = None) -> None:
        self.term = term
        self._values: Any = values  # None in a whole, see `of`
        self._buffer: torch.Tensor | None = None

    def of(self, rows: slice) -> _Explicit:
        term = self.term[rows]
        if not isinstance(term, Outer) or term.a.shape[1] > 1:
            return _Explicit(term, term.values)
        # Fresh memory for every chunk would take longer than what is computed.
        if self._buffer is None:
            self._buffer = term.b.new_empty(len(term), term.size)
        values = self._buffer[: len(term)]
        return _Explicit(term, term.multiplied_out(values))

    def prepared(self, vectors: torch.Tensor) -> torch.Tensor:
        return vectors.contiguous()

    def restored(self, vectors: torch.Tensor) -> torch.Tensor:
        return vectors

    def through(self, vectors: torch.Tensor) -> torch.Tensor:
        """Multiply the rows with vectors (k, p): (rows, k)."""
        return self._values @ vectors.T

    def add_back(self, weights: torch.Tensor, total: torch.Tensor) -> None:
        """Add the rows, weighted (rows, k), to a total (k, p)."""
        total.addmm_(weights.T, self._values)


class _Factored:
    """One matrix's rows as factors: (n_samples, groups, L, n_in), (n, groups, L, n_out)."""

    def __init__(self, term: Outer) -> None:
        self.term = term

    def of(self, rows: slice) -> _Factored:
        return _Factored(self.term[rows])

    def prepared(self, vectors: torch.Tensor) -> torch.Tensor:
        """(k, groups · n_out · n_in) to (groups, n_in, n_out · k)."""
        groups, n_in, n_out = self._sizes()
        vectors = vectors.reshape(len(vectors), groups, n_out, n_in)
        return vectors.permute(1, 3, 2, 0).flatten(2).contiguous()

    def restored(self, vectors: torch.Tensor) -> torch.Tensor:
        groups, n_in, n_out = self._sizes()
        return vectors.view(groups, n_in, n_out, -1).permute(3, 0, 2, 1).flatten(1)

    def _sizes(self) -> tuple[int, int, int]:
        a, b = self.term.a, self.term.b
        return a.shape[1], a.shape[3], b.shape[3]

    def _b(self, group: int) -> torch.Tensor:
        """(n_samples, rows of a sample, L · n_out)."""
        return self.term.b[:, group].flatten(1).unflatten(0, (len(self.term.a), -1))

    def through(self, vectors: torch.Tensor) -> torch.Tensor:
        n, length, n_out = len(self.term.a), self.term.a.shape[2], self.term.b.shape[3]
        out: Any = 0
        for g, matrix in enumerate(vectors):
            along = self.term.a[:, g].flatten(0, 1) @ matrix  # (n_samples · L, n_out · k)
            out = out + self._b(g) @ along.view(n, length * n_out, -1)
        return out.flatten(0, 1)

    def add_back(self, weights: torch.Tensor, total: torch.Tensor) -> None:
        n, n_out = len(self.term.a), self.term.b.shape[3]
        weights = weights.unflatten(0, (n, -1))
        for g, sums in enumerate(total):
            along = self._b(g).transpose(1, 2) @ weights  # (n_samples, L · n_out, k)
            along = along.view(-1, n_out * weights.shape[2])
            sums.addmm_(self.term.a[:, g].flatten(0, 1).T, along)


class PassProducts:
    """The same where the factors of all rows do not fit into memory: made anew each time.

    Parameters
    ----------
    make : callable
        Yields pairs of J's factors and L, of a few samples at a time.
    """

    def __init__(self, make: Callable[[], Iterable[tuple[Terms, torch.Tensor]]]) -> None:
        self._make = make

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        """Multiply vectors (k, p) with C."""
        products = (FactorProducts(*part)(vectors) for part in self._make())
        return cast(torch.Tensor, sum(products))

    def narrowed(self, generator: torch.Generator) -> tuple[PassProducts, None]:
        """Return the products as they are: not all inputs are known at once."""
        return self, None

    def sketch(self, n_vectors: int, generator: torch.Generator) -> torch.Tensor:
        """Sum rows in random groups; see `FactorProducts`."""
        parts = (FactorProducts(*part) for part in self._make())
        return cast(torch.Tensor, sum(part.sketch(n_vectors, generator) for part in parts))


def joined_products(parts: Iterable[tuple[Terms, torch.Tensor]]) -> FactorProducts:
    """Make products of the factors of several batches.

    Parameters
    ----------
    parts : list of (dict of str to term, torch.Tensor)
        J and L of each.

    Returns
    -------
    products : FactorProducts
    """
    jacobian, roots = zip(*parts, strict=True)
    return FactorProducts(join_terms(list(jacobian)), torch.cat(roots))
