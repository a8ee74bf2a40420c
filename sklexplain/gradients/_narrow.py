r"""Fewer inputs for wide matrices: the directions in which most of a layer's inputs lie.

Of a matrix W whose inputs lie mostly in the space of Q, gradients are about those of W Q, which has
fewer entries. That is good enough for a preconditioner, and takes a fraction of the products.
"""

from __future__ import annotations

import torch

from ..utils import DeviceLike, SavedAsArrays, normal
from ._terms import Outer
from ._typing import Terms

_WIDE = 256  # inputs, below which nothing is gained
_SHARE = 7  # of the inputs' directions one is kept
_N_POWERS = 2
_N_INPUTS = 20_000  # of a layer that tell the directions


class Narrow(SavedAsArrays):
    """Takes vectors to the space of matrices with fewer inputs, and back.

    Parameters
    ----------
    sizes : list of int
        Numbers of entries of the parameters.
    bases : dict of str to torch.Tensor of shape (n_in, n_kept)
        Orthonormal columns, by the positions of parameters that are narrowed.
    """

    def __init__(self, sizes: list[int], bases: dict[str, torch.Tensor]) -> None:
        self._sizes, self._bases = sizes, bases

    def narrowed(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return the part of vectors (k, p) in the space, in its coordinates."""
        pieces = vectors.split(self._sizes, dim=1)
        return torch.cat([self._times(i, v) for i, v in enumerate(pieces)], dim=1)

    def _times(self, position: int, vectors: torch.Tensor) -> torch.Tensor:
        basis = self._bases.get(str(position))
        if basis is None:
            return vectors
        basis = basis.to(vectors.dtype)
        return (vectors.unflatten(1, (-1, len(basis))) @ basis).flatten(1)

    def widened(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return vectors of the space in the coordinates of the parameters, (k, p)."""
        pieces = []
        for i, piece in enumerate(vectors.split(self._narrow_sizes(), dim=1)):
            basis = self._bases.get(str(i))
            if basis is not None:
                matrices = piece.unflatten(1, (-1, basis.shape[1]))
                piece = (matrices @ basis.T.to(piece.dtype)).flatten(1)
            pieces.append(piece)
        return torch.cat(pieces, dim=1)

    def shortened(self, values: torch.Tensor) -> torch.Tensor:
        """Return one number for each entry (p,), the same for all of a parameter, in the space."""
        pieces = values.split(self._sizes)
        sizes = self._narrow_sizes()
        return torch.cat([v[:size] for v, size in zip(pieces, sizes, strict=True)])

    def _narrow_sizes(self) -> list[int]:
        sizes = []
        for i, size in enumerate(self._sizes):
            basis = self._bases.get(str(i))
            sizes.append(size if basis is None else size // basis.shape[0] * basis.shape[1])
        return sizes

    def moved(self, device: DeviceLike) -> Narrow:
        """Take the bases to a device."""
        self._bases = {name: basis.to(device) for name, basis in self._bases.items()}
        return self


def narrow_terms(terms: Terms, generator: torch.Generator) -> tuple[Terms, Narrow | None]:
    """Keep the directions of wide layers' inputs in which most of them lie.

    Parameters
    ----------
    terms : dict of str to term
        Gradients.
    generator : torch.Generator
        Of the random vectors that find the directions.

    Returns
    -------
    terms : dict of str to term
        With fewer entries.
    narrow : Narrow or None
        Between the two spaces; None where no layer is wide.
    """
    out, bases = dict(terms), {}
    for position, (name, term) in enumerate(terms.items()):
        if isinstance(term, Outer) and term.a.shape[1] == 1 and term.a.shape[3] >= _WIDE:
            inputs = term.a.flatten(0, 2)
            basis = _main_directions(inputs, inputs.shape[1] // _SHARE, generator)
            bases[str(position)] = basis
            out[name] = Outer(term.a @ basis, term.b)
    if not bases:
        return terms, None
    return out, Narrow([term.size for term in terms.values()], bases)


def _main_directions(inputs: torch.Tensor, n_kept: int, generator: torch.Generator) -> torch.Tensor:
    """Orthonormal columns that span most of the rows of a matrix, (n_in, n_kept)."""
    if len(inputs) > _N_INPUTS:
        chosen = torch.randint(len(inputs), (_N_INPUTS,), generator=generator)
        inputs = inputs[chosen.to(inputs.device)]
    basis = normal(generator, inputs.shape[1], n_kept).to(inputs)
    for _ in range(_N_POWERS):
        basis = torch.linalg.qr(inputs.T @ (inputs @ basis)).Q
    return basis
