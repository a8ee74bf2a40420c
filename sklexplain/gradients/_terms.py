"""Per-sample gradients of one parameter, kept as factors wherever that is smaller."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from ..utils import SavedAsArrays
from ._typing import Term

_PER_PAIR = 32  # multiplications that take as long as one number through the memory


def _single(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


class Explicit(SavedAsArrays):
    """Gradients as they are.

    Parameters
    ----------
    values : torch.Tensor of shape (n, p)
        One flattened gradient a row.
    """

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    @property
    def size(self) -> int:
        """Number of entries of one gradient, p."""
        return self.values.shape[1]

    @property
    def n_bytes(self) -> int:
        """Bytes held."""
        return _n_bytes(self.values)

    def compact(self) -> Explicit:
        """Return whatever form is smallest."""
        return self

    def __getitem__(self, rows: Any) -> Explicit:
        return Explicit(self.values[rows])

    def total(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sum over samples, and that of what is added up without signs, (p,) each."""
        return self.values.sum(dim=0), self.values.abs().sum(dim=0)

    def scaled(self, factor: Any) -> Explicit:
        """Multiply with a number."""
        return Explicit(self.values * factor)

    def weighted(self, weights: torch.Tensor) -> Explicit:
        """Multiply each sample's with a number of its own, (n,)."""
        return Explicit(self.values * weights.to(self.values)[:, None])

    def double(self) -> Explicit:
        """Convert to float64."""
        return Explicit(self.values.double())

    def single(self) -> Explicit:
        """Convert half precision to float32."""
        return Explicit(_single(self.values))

    def joined(self, others: Sequence[Explicit]) -> Explicit:
        """Stack with the gradients of other samples."""
        return Explicit(torch.cat([self.values, *(o.values for o in others)]))

    def interleaved(self, others: Sequence[Explicit], n_each: int = 1) -> Explicit:
        """Put other gradients of the same samples behind each sample's ``n_each``, (n · k, p)."""
        return Explicit(_interleaved([self.values, *(o.values for o in others)], n_each))

    def chunks(self, max_bytes: int) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield columns of the gradients and what part they are, a few at a time."""
        step = max(1, max_bytes // max(1, len(self) * self.values.element_size()))
        for first in range(0, self.size, step):
            columns = slice(first, min(first + step, self.size))
            yield columns, self.values[:, columns]

    def gram(self, other: Explicit, max_bytes: int) -> torch.Tensor:
        """Inner products with other gradients of the same parameter, (n, n_other)."""
        return self.values @ other.values.T


class Outer(SavedAsArrays):
    r"""Gradients :math:`\sum_l b_l a_l^\top` of weight matrices that are applied at L positions.

    Several gradients in a row may be of the same sample, as those of a code's entries are: they
    share the inputs, which are then held once.

    Parameters
    ----------
    a : torch.Tensor of shape (n_samples, n_groups, L, n_in)
        Input of the matrix.
    b : torch.Tensor of shape (n, n_groups, L, n_out)
        Gradients of the matrix's products; n is a multiple of n_samples.
    """

    def __init__(self, a: torch.Tensor, b: torch.Tensor) -> None:
        self.a, self.b = a, b

    def __len__(self) -> int:
        return len(self.b)

    @property
    def n_sharing(self) -> int:
        """Number of gradients of one sample."""
        return len(self.b) // max(1, len(self.a))

    @property
    def n_positions(self) -> int:
        """Number of positions at which the matrix is applied, L."""
        return self.a.shape[2]

    def padded(self, n_positions: int) -> Outer:
        """Return the same with more positions, which add nothing."""
        more = (0, 0, 0, n_positions - self.n_positions)
        return Outer(nn.functional.pad(self.a, more), nn.functional.pad(self.b, more))

    @property
    def size(self) -> int:
        """Number of entries of one gradient, n_groups · n_out · n_in."""
        return self.a.shape[1] * self.a.shape[3] * self.b.shape[3]

    @property
    def n_bytes(self) -> int:
        """Bytes held."""
        return _n_bytes(self.a) + _n_bytes(self.b)

    def compact(self) -> Explicit | Outer:
        """Return the explicit gradients if they are smaller than the factors."""
        if self.size <= math.prod(self.a.shape[1:]) + math.prod(self.b.shape[1:]):
            return Explicit(self.values)
        return self

    @property
    def values(self) -> torch.Tensor:
        """The explicit gradients, (n, p)."""
        return self._part(self.b).reshape(len(self), -1)

    def _part(self, b: torch.Tensor) -> torch.Tensor:
        """Multiply out some columns of the products' gradients, (n, n_groups, columns, n_in)."""
        if len(b) == len(self.a):
            return b.transpose(2, 3) @ self.a
        n, groups, length, width = b.shape
        b = b.view(len(self.a), -1, groups, length, width).permute(0, 2, 1, 4, 3)
        products = b.flatten(2, 3) @ self.a  # (n_samples, n_groups, n_sharing · columns, n_in)
        return products.unflatten(2, (-1, width)).transpose(1, 2).reshape(n, groups, width, -1)

    def multiplied_out(self, out: torch.Tensor) -> torch.Tensor:
        """Write the explicit gradients of a single group into a tensor (n, p), and return it."""
        b = self.b[:, 0].unflatten(0, (len(self.a), -1)).transpose(2, 3).flatten(1, 2)
        torch.bmm(b, self.a[:, 0], out=out.view(len(self.a), b.shape[1], -1))
        return out

    def apart(self) -> Outer:
        """Return the same, every gradient with inputs of its own."""
        k = self.n_sharing
        return self if k == 1 else Outer(self.a.repeat_interleave(k, dim=0), self.b)

    def __getitem__(self, rows: Any) -> Outer:
        k = self.n_sharing
        if k == 1:
            return Outer(self.a[rows], self.b[rows])
        if isinstance(rows, slice) and rows.step in (None, 1):
            first, last, _ = rows.indices(len(self))
            if first % k == 0 and last % k == 0:
                return Outer(self.a[first // k : last // k], self.b[rows])
        if not isinstance(rows, slice):
            return self._of_samples(rows)
        whole = self.apart()
        return Outer(whole.a[rows], whole.b[rows])

    def _of_samples(self, rows: Any) -> Outer:
        """Select rows by positions; those of whole samples in order go on sharing inputs."""
        k = self.n_sharing
        rows = torch.as_tensor(rows, device=self.b.device)
        samples = rows // k
        if rows.dtype == torch.long and len(rows) % k == 0:
            whole = samples[::k].unsqueeze(1) * k + torch.arange(k, device=rows.device)
            if torch.equal(whole.flatten(), rows):
                return Outer(self.a[samples[::k]], self.b[rows])
        return Outer(self.a[samples], self.b[rows])

    def total(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sum over samples, and a bound of what is added up without signs."""
        whole = self.apart()
        # (n_groups, n · L, ...)
        a, b = (t.transpose(0, 1).flatten(1, 2) for t in (whole.a, whole.b))
        total = b.transpose(1, 2) @ a
        a, b = (t.square().sum(dim=1).sqrt() for t in (a, b))  # in less time than `norm`
        size = b.unsqueeze(2) * a.unsqueeze(1)  # by Cauchy and Schwarz
        return total.flatten(), size.flatten()

    def scaled(self, factor: Any) -> Outer:
        """Multiply with a number."""
        return Outer(self.a, self.b * factor)

    def weighted(self, weights: torch.Tensor) -> Outer:
        """Multiply each sample's with a number of its own, (n,)."""
        whole = self.apart()
        return Outer(whole.a, whole.b * weights.to(whole.b).reshape(-1, *[1] * (whole.b.dim() - 1)))

    def double(self) -> Outer:
        """Convert to float64."""
        return Outer(self.a.double(), self.b.double())

    def single(self) -> Outer:
        """Convert half precision to float32."""
        return Outer(_single(self.a), _single(self.b))

    def joined(self, others: Sequence[Outer]) -> Outer:
        """Stack with the gradients of other samples."""
        parts = [self, *others]
        if len({t.n_sharing for t in parts}) > 1:
            parts = [t.apart() for t in parts]
        return Outer(torch.cat([t.a for t in parts]), torch.cat([t.b for t in parts]))

    def interleaved(self, others: Sequence[Outer], n_each: int = 1) -> Outer:
        """Put other gradients of the same samples behind each sample's ``n_each``, (n · k, p)."""
        parts = [self, *others]
        b = _interleaved([t.b for t in parts], n_each)
        shared = all(t.n_sharing == n_each for t in parts)
        if shared and all(t.a is self.a or torch.equal(t.a, self.a) for t in others):
            return Outer(self.a, b)
        if shared:
            return Outer(_interleaved([t.a for t in parts]), b)
        return Outer(_interleaved([t.apart().a for t in parts], n_each), b)

    def added(self, other: Outer) -> Outer:
        """Sum with the gradients of other uses of the matrix: they are more positions."""
        ours, theirs = self.apart(), other.apart()
        return Outer(torch.cat([ours.a, theirs.a], dim=2), torch.cat([ours.b, theirs.b], dim=2))

    def chunks(self, max_bytes: int) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield columns of the gradients and what part they are, a few at a time."""
        n_groups, n_out, n_in = self.a.shape[1], self.b.shape[3], self.a.shape[3]
        row = max(1, len(self) * n_in * self.a.element_size())
        step = max(1, max_bytes // row)
        if step >= n_groups * n_out:
            yield slice(0, self.size), self.values
            return
        for g in range(n_groups):
            group = Outer(self.a[:, g : g + 1], self.b[:, g : g + 1])
            for first in range(0, n_out, step):
                last = min(first + step, n_out)
                part = group._part(group.b[..., first:last])
                columns = slice((g * n_out + first) * n_in, (g * n_out + last) * n_in)
                yield columns, part.reshape(len(self), -1)

    def gram(self, other: Outer, max_bytes: int) -> torch.Tensor:
        """Inner products with other gradients of the same parameter, (n, n_other)."""
        if self.is_cheaper_explicit(other):
            return _explicit_gram(self, other, max_bytes)
        return _paired_gram(self, other, max_bytes)

    def is_cheaper_explicit(self, other: Outer) -> bool:
        """Tell whether inner products take fewer multiplications by the explicit gradients."""
        n_pairs, n_sum = len(self) * len(other), len(self) + len(other)
        n_positions, area = self.a.shape[2], self.a.shape[3] * self.b.shape[3]
        # Products of pairs of positions are written and read again, which takes its time.
        of_pair = len(self.a) * len(other.a) * self.a.shape[3] + n_pairs * (
            self.b.shape[3] + (_PER_PAIR if n_positions * other.a.shape[2] > 1 else 0)
        )
        factored = n_positions * other.a.shape[2] * of_pair
        return factored > area * (n_pairs + n_sum * n_positions)

    def combined(self, weights: torch.Tensor) -> torch.Tensor:
        """Sum the gradients with weights (k, n), without the explicit gradients; (k, p)."""
        a = self.a.transpose(0, 1).flatten(1, 2)
        sums = []
        for w in weights:
            b = (self.b * w.view(-1, 1, 1, 1)).unflatten(0, (len(self.a), -1)).sum(dim=1)
            sums.append((b.transpose(0, 1).flatten(1, 2).transpose(1, 2) @ a).flatten())
        return torch.stack(sums)


class Lookup(SavedAsArrays):
    """Gradients of a table, of which every sample looks up L rows.

    Parameters
    ----------
    index : torch.Tensor of int of shape (n, L)
        The rows.
    b : torch.Tensor of shape (n, L, width)
        Gradients with respect to the rows that were looked up.
    n_rows : int
        Length of the table.
    """

    def __init__(self, index: torch.Tensor, b: torch.Tensor, n_rows: int) -> None:
        self.index, self.b, self.n_rows = index, b, n_rows

    def __len__(self) -> int:
        return len(self.index)

    @property
    def n_positions(self) -> int:
        """Number of rows that a sample looks up, L."""
        return self.index.shape[1]

    def padded(self, n_positions: int) -> Lookup:
        """Return the same with more rows looked up, whose gradients are 0."""
        more = n_positions - self.n_positions
        index = nn.functional.pad(self.index, (0, more))
        return Lookup(index, nn.functional.pad(self.b, (0, 0, 0, more)), self.n_rows)

    @property
    def size(self) -> int:
        """Number of entries of one gradient."""
        return self.n_rows * self.b.shape[2]

    @property
    def n_bytes(self) -> int:
        """Bytes held."""
        return _n_bytes(self.index) + _n_bytes(self.b)

    def compact(self) -> Explicit | Lookup:
        """Return the explicit gradients if they are smaller than the factors."""
        small = self.size <= self.index.shape[1] * (self.b.shape[2] + 1)
        return Explicit(self.values) if small else self

    @property
    def values(self) -> torch.Tensor:
        """The explicit gradients, (n, p)."""
        table = self.b.new_zeros(len(self), self.n_rows, self.b.shape[2])
        index = self.index.unsqueeze(2).expand_as(self.b)
        return table.scatter_add_(1, index, self.b).reshape(len(self), -1)

    def __getitem__(self, rows: Any) -> Lookup:
        return Lookup(self.index[rows], self.b[rows], self.n_rows)

    def total(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sum over samples, and that of what is added up without signs, (p,) each."""
        b, index = self.b.flatten(0, 1), self.index.flatten()
        table = b.new_zeros(self.n_rows, b.shape[1])
        total, size = (table.index_add(0, index, part).flatten() for part in (b, b.abs()))
        return total, size

    def scaled(self, factor: Any) -> Lookup:
        """Multiply with a number."""
        return Lookup(self.index, self.b * factor, self.n_rows)

    def weighted(self, weights: torch.Tensor) -> Lookup:
        """Multiply each sample's with a number of its own, (n,)."""
        return Lookup(self.index, self.b * weights.to(self.b)[:, None, None], self.n_rows)

    def double(self) -> Lookup:
        """Convert to float64."""
        return Lookup(self.index, self.b.double(), self.n_rows)

    def single(self) -> Lookup:
        """Convert half precision to float32."""
        return Lookup(self.index, _single(self.b), self.n_rows)

    def joined(self, others: Sequence[Lookup]) -> Lookup:
        """Stack with the gradients of other samples."""
        parts = [self, *others]
        index, b = torch.cat([t.index for t in parts]), torch.cat([t.b for t in parts])
        return Lookup(index, b, self.n_rows)

    def interleaved(self, others: Sequence[Lookup], n_each: int = 1) -> Lookup:
        """Put other gradients of the same samples behind each sample's ``n_each``, (n · k, p)."""
        parts = [self, *others]
        index = _interleaved([t.index for t in parts], n_each)
        return Lookup(index, _interleaved([t.b for t in parts], n_each), self.n_rows)

    def added(self, other: Lookup) -> Lookup:
        """Sum with the gradients of other uses of the table."""
        index = torch.cat([self.index, other.index], dim=1)
        return Lookup(index, torch.cat([self.b, other.b], dim=1), self.n_rows)

    def chunks(self, max_bytes: int) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield columns of the gradients and what part they are, a few at a time."""
        width = self.b.shape[2]
        step = max(1, max_bytes // max(1, len(self) * width * self.b.element_size()))
        for first in range(0, self.n_rows, step):
            last = min(first + step, self.n_rows)
            inside = (self.index >= first) & (self.index < last)
            index = torch.where(inside, self.index - first, 0)
            part = Lookup(index, self.b * inside.unsqueeze(2), last - first)
            yield slice(first * width, last * width), part.values

    def gram(self, other: Lookup, max_bytes: int) -> torch.Tensor:
        """Inner products with other gradients of the same table, (n, n_other)."""
        out = self.b.new_empty(len(self), len(other))
        theirs, b = other.index.reshape(-1), other.b.reshape(-1, other.b.shape[2])
        row_bytes = 2 * self.index.shape[1] * len(theirs) * self.b.element_size()
        step = max(1, max_bytes // max(1, row_bytes))
        for i in range(0, len(self), step):
            rows = slice(i, i + step)
            mine = self.b[rows]
            products = (mine.reshape(-1, mine.shape[2]) @ b.T) * (
                self.index[rows].reshape(-1, 1) == theirs
            )
            products = products.view(len(mine), self.index.shape[1], len(other), -1)
            out[rows] = products.sum(dim=(1, 3))
        return out


def _interleaved(tensors: list[torch.Tensor], n_each: int = 1) -> torch.Tensor:
    return torch.stack([t.unflatten(0, (-1, n_each)) for t in tensors], dim=1).flatten(0, 2)


def _n_bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _explicit_gram(first: Outer, second: Outer, max_bytes: int) -> torch.Tensor:
    """Inner products by explicit gradients, a few columns at a time."""
    # Both sides get the same columns only if they get the same share of the memory.
    step = max_bytes * len(first) // max(1, len(first) + len(second))
    width = first.a.shape[3] * first.a.element_size()
    n_rows = max(1, step // max(1, len(first) * width))
    out = first.a.new_zeros(len(first), len(second))
    pairs = zip(
        first.chunks(n_rows * len(first) * width),
        second.chunks(n_rows * len(second) * width),
        strict=True,
    )
    for (_, ours), (_, theirs) in pairs:
        out += ours @ theirs.T
    return out


def _paired_gram(first: Outer, second: Outer, max_bytes: int) -> torch.Tensor:
    """Inner products by the factors: those of a times those of b, over pairs of positions."""
    out = first.b.new_zeros(len(first.a), first.n_sharing, len(second.a), second.n_sharing)
    mine, theirs = first.a.shape[2], second.a.shape[2]
    n_theirs = len(second) * theirs
    row_bytes = 2 * first.n_sharing * mine * n_theirs * first.a.element_size()
    step = max(1, max_bytes // max(1, row_bytes))
    b_of_samples = first.b.unflatten(0, out.shape[:2])
    for g in range(first.a.shape[1]):
        a, b = (t[:, g].flatten(0, 1) for t in (second.a, second.b))
        for i in range(0, len(first.a), step):
            rows = slice(i, i + step)
            of_a = first.a[rows, g].flatten(0, 1) @ a.T
            of_b = b_of_samples[rows, :, g].flatten(0, 2) @ b.T
            of_a = of_a.view(-1, 1, mine, len(second.a), 1, theirs)
            of_b = of_b.view(-1, *out.shape[1:2], mine, *out.shape[2:], theirs)
            if mine == theirs == 1:
                part = out[rows]
                part.addcmul_(of_a[:, :, 0, ..., 0], of_b[:, :, 0, ..., 0])
            else:
                out[rows] += of_b.mul_(of_a).sum(dim=(2, 5))
    return out.view(len(first), len(second))


def add_terms(first: Any, second: Any) -> Term:
    """Add two gradients of the same samples in the same parameter.

    Parameters
    ----------
    first, second : Explicit, Outer or Lookup
        The gradients.

    Returns
    -------
    term : Explicit, Outer or Lookup
    """
    same = type(first) is type(second) and not isinstance(first, Explicit)
    if same and (isinstance(first, Lookup) or _alike(first, second)):
        return first.added(second)
    return Explicit(first.values + second.values)


def _alike(first: Outer, second: Outer) -> bool:
    groups = first.a.shape[1] == second.a.shape[1]
    return (
        groups and first.a.shape[3] == second.a.shape[3] and first.b.shape[3] == second.b.shape[3]
    )


def same_kind(first: Any, second: Any) -> bool:
    """Tell whether the gradients of two sets in the same parameter are kept in the same form.

    Parameters
    ----------
    first, second : Explicit, Outer or Lookup
        The gradients; of other numbers of positions, maybe.

    Returns
    -------
    same : bool
    """
    same = type(first) is type(second)
    return same and (not isinstance(first, Outer) or _alike(first, second))


def common_terms(terms: Sequence[Any]) -> list[Any]:
    """Bring several sets of gradients in the same parameter into one form.

    They have others where some samples only take a branch of the network that uses it again.

    Parameters
    ----------
    terms : list of Explicit, Outer or Lookup
        The sets.

    Returns
    -------
    terms : list of Explicit, Outer or Lookup
        Of one class, and with the same number of positions.
    """
    first = terms[0]
    if not all(same_kind(first, other) for other in terms[1:]):
        return [t if isinstance(t, Explicit) else Explicit(t.values) for t in terms]
    if isinstance(first, Explicit):
        return list(terms)
    most = max(t.n_positions for t in terms)
    return [t if t.n_positions == most else t.padded(most) for t in terms]
