"""The curvature of the mean training loss: its products with vectors, and as a sum of squares."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Self

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..layers import run_to
from ._per_sample import per_sample_products, requiring_gradients
from ._second import WrittenOut, positive_part
from ._sets import interleave_terms
from ._trial import Trial
from ._typing import Batch, Function, Losses, Term, Terms


@contextmanager
def twice_differentiable(module: nn.Module, parameters: Sequence[torch.Tensor]) -> Iterator[None]:
    """Let gradients flow to parameters, and through gradients themselves.

    Parameters
    ----------
    module : nn.Module
        The network.
    parameters : list of torch.Tensor
        Their flags are put back.

    Yields
    ------
    None

    Raises
    ------
    TypeError
        If torch has no second derivatives of the loss, or of a layer.
    RuntimeError
        If anything else fails inside.
    """
    fused = torch.backends.mkldnn.enabled
    try:
        # Fused recurrent and attention kernels have first derivatives only.
        if any(isinstance(m, nn.RNNBase) for m in module.modules()):
            torch.backends.mkldnn.enabled = False  # type: ignore[assignment]  # a property
        with (
            requiring_gradients(parameters),
            torch.enable_grad(),
            sdpa_kernel(SDPBackend.MATH),
            WrittenOut(),
        ):
            yield
    except RuntimeError as error:
        if "derivative for" not in str(error) or "not implemented" not in str(error):
            raise
        raise TypeError(
            f"torch has no second derivatives of the loss or of the network ({error}), which "
            "influence is computed of; pass another loss, or use TracInImportance, which needs "
            "none."
        ) from error
    finally:
        torch.backends.mkldnn.enabled = fused


def bends_back(losses: Losses, batches: Iterable[Batch]) -> bool:
    """Tell whether losses have negative second derivatives in the network's output.

    Parameters
    ----------
    losses : Losses
        Of the network.
    batches : iterable of torch.Tensor
        All samples.

    Returns
    -------
    bends_back : bool
        See `positive_part` for what is looked at.
    """
    with twice_differentiable(losses.module, []):
        for x in batches:
            for part in losses.inputs(x):
                output = _one_output(losses, part).detach()
                _, product = _output_derivatives(losses, output, x, cut=False)
                if positive_part(product, output) is not product:
                    return True
    return False


def curvature_products(
    losses: Losses,
    parameters: Sequence[torch.Tensor],
    batches: Iterable[Batch],
    vectors: torch.Tensor,
    curvature: str,
    cut: bool = False,
) -> torch.Tensor:
    r"""Multiply the curvature of the mean loss with vectors.

    Parameters
    ----------
    losses : Losses
        Of the network.
    parameters : list of torch.Tensor
        The parameters, p entries in all.
    batches : iterable of torch.Tensor
        All samples.
    vectors : torch.Tensor of shape (k, p)
        The vectors.
    curvature : {"hessian", "gauss_newton"}
        The Hessian, or :math:`\frac{1}{n} \sum_n J_n^\top S_n J_n`, J the network's Jacobian and S
        the Hessian of the loss in the network's output.
    cut : bool, default=False
        Whether to leave out what is negative in S.

    Returns
    -------
    products : torch.Tensor of shape (k, p)
        In the vectors' dtype.
    """
    make: Function = _hessian_product
    if curvature == "gauss_newton":
        make = partial(_gauss_newton_product, cut=cut)
    sizes = [p.numel() for p in parameters]
    total, n = torch.zeros_like(vectors), 0
    with twice_differentiable(losses.module, parameters):
        for x in batches:
            inputs = losses.inputs(x)
            for part in inputs:
                product = make(losses, parameters, part, x)
                for row, vector in zip(total, vectors, strict=True):
                    pieces = vector.to(parameters[0].dtype).split(sizes)
                    pieces = [v.view_as(p) for v, p in zip(pieces, parameters, strict=True)]
                    pieces = product(pieces)
                    if pieces is not None:
                        row += _flat(pieces, parameters).to(row.dtype) / len(inputs)
            n += len(x)
    return total / n


def _hessian_product(
    losses: Losses, parameters: Sequence[torch.Tensor], part: Batch, x: Batch
) -> Function:
    """Make the function that multiplies with a batch's Hessian."""
    loss = losses.compare(losses.output(part), x).sum()
    grads = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)

    def product(vector: Sequence[torch.Tensor]) -> tuple[torch.Tensor | None, ...] | None:
        inner = _inner(grads, vector)
        if not isinstance(inner, torch.Tensor) or not inner.requires_grad:
            return None
        return torch.autograd.grad(inner, parameters, retain_graph=True, allow_unused=True)

    return product


def _gauss_newton_product(
    losses: Losses, parameters: Sequence[torch.Tensor], part: Batch, x: Batch, cut: bool
) -> Function:
    """Make the function that multiplies with a batch's Gauss–Newton matrix."""
    output = _one_output(losses, part)
    probe = torch.zeros_like(output, requires_grad=True)
    grads = torch.autograd.grad(output, parameters, probe, create_graph=True, allow_unused=True)
    _, weigh = _output_derivatives(losses, output, x, cut)

    def product(vector: Sequence[torch.Tensor]) -> tuple[torch.Tensor | None, ...] | None:
        inner = _inner(grads, vector)
        if not isinstance(inner, torch.Tensor):
            return None
        (along,) = torch.autograd.grad(inner, probe, retain_graph=True)
        return torch.autograd.grad(
            output, parameters, weigh(along), retain_graph=True, allow_unused=True
        )

    return product


def _output_derivatives(
    losses: Losses, output: torch.Tensor, x: Batch, cut: bool
) -> tuple[torch.Tensor, Function]:
    """Losses' first derivatives in the output, and the function that multiplies with S."""
    leaf = output.detach().requires_grad_()
    (slope,) = torch.autograd.grad(losses.compare(leaf, x).sum(), leaf, create_graph=True)

    def product(direction: torch.Tensor) -> torch.Tensor:
        if not slope.requires_grad:
            return torch.zeros_like(direction)
        (bent,) = torch.autograd.grad(slope, leaf, direction, retain_graph=True, allow_unused=True)
        return torch.zeros_like(direction) if bent is None else bent

    return slope, positive_part(product, leaf) if cut else product


def _inner(
    grads: Sequence[torch.Tensor | None], vector: Sequence[torch.Tensor]
) -> torch.Tensor | int:
    return sum((g * v).sum() for g, v in zip(grads, vector, strict=True) if g is not None)


def _flat(grads: Sequence[torch.Tensor | None], parameters: Sequence[torch.Tensor]) -> torch.Tensor:
    parts = [
        torch.zeros_like(p) if g is None else g for g, p in zip(grads, parameters, strict=True)
    ]
    return torch.cat([g.detach().flatten() for g in parts])


def _one_output(losses: Losses, part: Batch) -> torch.Tensor:
    return _one_tensor(losses.output(part))


def _one_tensor(output: object) -> torch.Tensor:
    if isinstance(output, torch.Tensor):
        return output
    raise TypeError(
        f"curvature='gauss_newton' needs a network whose output is one tensor, but it returns "
        f"{type(output).__name__}; set curvature='hessian', or wrap the network so that it returns "
        "what the loss looks at."
    )


class GaussNewtonRows:
    r"""The Gauss–Newton matrix as :math:`A^\top A`, A having few rows for each sample.

    The parameters act only through the output z of one part of the network, its waist: for example
    through the code of an autoencoder if the parameters are the encoder's. With D the Jacobian of
    the network's output in z, :math:`D^\top S D = L L^\top`, and the rows of a sample are the
    gradients of :math:`\langle L_j, z \rangle`, as many as z has entries.

    Parameters
    ----------
    losses : Losses
        Of the network.
    trial : Trial
        Of the losses, with what `Losses.evaluate` returns as its result; says which parameters.
    waist : nn.Module or None
        The part whose output is tried as z, watched in the trial. Where parameters act otherwise
        too, and for None, z is the network's output.
    cut : bool, default=False
        Whether to leave out what is negative in S.

    Attributes
    ----------
    size : int
        Number of entries of z.
    n_rows : int
        Number of rows of a sample, over all draws of a random pretext task.
    """

    @classmethod
    def again(cls, losses: Losses, kept: dict[str, Any], waist: nn.Module | None) -> Self:
        """Make the same for another session, without a trial.

        Parameters
        ----------
        losses : Losses
            Of the session's network.
        kept : dict
            What `kept` returned.
        waist : nn.Module or None
            The session's own, if there was one.

        Returns
        -------
        rows : GaussNewtonRows
        """
        rows = cls.__new__(cls)
        rows._losses, rows._waist = losses, waist if kept["has_waist"] else None
        rows._cut, rows._n_draws, rows._plan = kept["cut"], kept["n_draws"], kept["plan"]
        rows.size = kept["size"]
        rows.n_rows = rows.size * rows._n_draws
        return rows

    def kept(self) -> dict[str, Any]:
        """Return what was found out in the trial, as plain data."""
        return {
            "has_waist": self._waist is not None,
            "cut": self._cut,
            "n_draws": self._n_draws,
            "plan": self._plan,
            "size": self.size,
        }

    def __init__(
        self, losses: Losses, trial: Trial, waist: nn.Module | None = None, cut: bool = False
    ) -> None:
        self._losses, self._cut = losses, cut
        inputs, outputs, values = trial.result
        self._n_draws = len(inputs)
        self._waist = waist if waist is not None and self._is_waist(trial, values) else None
        z = _one_tensor(outputs[0]) if self._waist is None else trial.watched[0].output
        self.size = z[:1].numel()
        self.n_rows = self.size * self._n_draws
        with torch.enable_grad():
            squares = _rows(z).square().sum(dim=1)
        self._plan = trial.plan(squares, self._squares, inputs[0])

    def _is_waist(self, trial: Trial, values: torch.Tensor) -> bool:
        """Tell whether the parameters act through the watched part's output only."""
        outputs = [watched.output for watched in trial.watched]
        tensors = all(isinstance(o, torch.Tensor) and len(o) == len(trial.x) for o in outputs)
        return len(outputs) == self._n_draws and tensors and trial.acts_through(values)

    def _squares(self, x: Batch) -> torch.Tensor:
        return _rows(self._at_waist(x)).square().sum(dim=1)

    def _at_waist(self, x: Batch) -> torch.Tensor:
        if self._waist is None:
            return _one_output(self._losses, x)
        return run_to(self._losses.run, self._waist, x)[0]

    def _after_waist(self, x: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return z as the start of a graph, and the network's output."""
        if self._waist is None:
            output = _one_output(self._losses, x).detach().requires_grad_()
            return output, output
        leaves = []

        def cut(_module: nn.Module, _args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
            leaves.append(output.detach().requires_grad_())
            return leaves[0].clone()

        handle = self._waist.register_forward_hook(cut)
        try:
            output = _one_output(self._losses, x)
        finally:
            handle.remove()
        return leaves[0], output

    def _with(self, waist: nn.Module, x: Batch) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return z, once for every call of the waist, and the network's output, of one pass."""
        seen = []

        def see(_module: nn.Module, _args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
            # What follows the hook depends on this, and may overwrite what it is given.
            seen.append(output.clone())
            return seen[-1].clone()

        handle = waist.register_forward_hook(see)
        try:
            output = _one_output(self._losses, x)
        finally:
            handle.remove()
        return seen, output

    def holds(self, batches: Iterable[Batch], parameters: Sequence[torch.Tensor]) -> bool:
        """Tell whether the parameters act through z only, for other samples than the trial's.

        Parameters
        ----------
        batches : iterable of torch.Tensor
            Samples.
        parameters : list of torch.Tensor
            The chosen ones.

        Returns
        -------
        holds : bool
            Whether gradients by the chain rule, through z, are those of the losses.
        """
        if self._waist is None:
            return True
        with twice_differentiable(self._losses.module, parameters):
            for x in batches:
                weights = torch.linspace(1, 2, len(x), dtype=torch.float64, device=x.device)
                for part in self._losses.inputs(x):
                    seen, output = self._with(self._waist, part)
                    if len(seen) != 1:
                        return False
                    loss = self._losses.compare(output, x)
                    slope, *whole = _weighted_slopes(loss, [*seen, *parameters], weights)
                    through = _weighted_slopes(seen[0], parameters, slope)
                    if not all(map(_close, through, whole)):
                        return False
        return True

    def factors(self, x: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Find the loss's derivatives in z, in every draw of a random pretext task.

        Parameters
        ----------
        x : torch.Tensor of shape (n, ...)
            Samples.

        Returns
        -------
        roots : torch.Tensor of shape (n, n_draws, size, size)
            L, for each sample; float64.
        slopes : torch.Tensor of shape (n, n_draws, size)
            The loss's first derivatives in z; float64. Gradients of the losses are the Jacobian's
            rows times them.
        """
        factors = [self._factors(part, x) for part in self._losses.inputs(x)]
        roots = torch.stack([r for r, _ in factors], dim=1) / self._n_draws**0.5
        return roots, torch.stack([s for _, s in factors], dim=1) / self._n_draws

    def _factors(self, part: Batch, x: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        with twice_differentiable(self._losses.module, []):
            z, output = self._after_waist(part)
            slope, product = _output_derivatives(self._losses, output, x, self._cut)
            slope = _rows(slope.detach()).double()
            units = [torch.zeros_like(_rows(z)) for _ in range(self.size)]
            for j, unit in enumerate(units):
                unit[:, j] = 1
            if z is output:
                matrix = [_rows(product(unit.view_as(z))) for unit in units]
                matrix = torch.stack(matrix, dim=2).double()
            else:
                tangents = _tangents(z, output, units)
                bent = torch.stack([_rows(product(t)) for t in tangents], dim=2)
                tangents = torch.stack([_rows(t) for t in tangents], dim=2)  # (n, m, size)
                matrix = (tangents.transpose(1, 2) @ bent).double()
                slope = (slope.unsqueeze(1) @ tangents.double()).squeeze(1)
        values, vectors = torch.linalg.eigh((matrix + matrix.transpose(1, 2)) / 2)
        # Negative values come from rounding, or from a loss that couples too many outputs.
        return vectors * values.clamp(min=0).sqrt().unsqueeze(1), slope

    def jacobian(self, x: Batch) -> Terms:
        """Gradients of z's entries.

        Parameters
        ----------
        x : torch.Tensor of shape (n, ...)
            Samples.

        Returns
        -------
        terms : dict of str to term
            n · n_rows gradients: of the first sample in every draw, each entry, then the second's.
        """
        units = torch.eye(self.size, dtype=x.dtype, device=x.device)
        units = [unit.expand(len(x), -1) for unit in units]
        parts = [self._gradients(part, units) for part in self._losses.inputs(x)]
        return interleave_terms([interleave_terms(part) for part in parts], self.size)

    def rows(self, x: Batch, n_samples: int, probes: torch.Tensor | None = None) -> Terms:
        """Rows of a batch.

        Parameters
        ----------
        x : torch.Tensor of shape (n, ...)
            Samples.
        n_samples : int
            Number of samples that the mean loss is of.
        probes : torch.Tensor of shape (n, size, k) or None, default=None
            Random combinations of each sample's rows that take their place.

        Returns
        -------
        terms : dict of str to term
            Gradients, sample by sample.
        """
        roots = self.factors(x)[0] / n_samples**0.5
        if probes is not None:
            roots = roots @ probes.to(roots).unsqueeze(1)
        gradients = []
        for part, root in zip(self._losses.inputs(x), roots.unbind(1), strict=True):
            gradients.append(interleave_terms(self._gradients(part, root.to(part.dtype).unbind(2))))
        return interleave_terms(gradients, roots.shape[3])

    def _gradients(self, part: Batch, directions: Sequence[torch.Tensor]) -> list[dict[str, Term]]:
        return per_sample_products(
            self._at_waist, self._losses.module, part, self._plan, directions
        )


def _rows(values: torch.Tensor) -> torch.Tensor:
    """Values of a batch as a matrix, a row a sample; also where a sample has a single one."""
    return values.reshape(len(values), -1)


def _tangents(
    z: torch.Tensor, output: torch.Tensor, directions: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """Products of the output's Jacobian in z with directions: backward through backward."""
    probe = torch.zeros_like(output, requires_grad=True)
    (slopes,) = torch.autograd.grad(output, z, probe, create_graph=True)
    return [
        torch.autograd.grad(slopes, probe, d.view_as(z), retain_graph=True)[0] for d in directions
    ]


def _weighted_slopes(
    values: torch.Tensor, tensors: Sequence[torch.Tensor], weights: torch.Tensor | None = None
) -> list[torch.Tensor]:
    """Gradients of a weighted sum, zeros for what it does not depend on; the graph is kept."""
    if not values.requires_grad:
        return [torch.zeros_like(t) for t in tensors]
    weights = torch.ones_like(values) if weights is None else weights.to(values)
    grads = torch.autograd.grad(values, tensors, weights, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(t) if g is None else g for g, t in zip(grads, tensors, strict=True)]


def _close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    tolerance = 1e-8 if expected.dtype == torch.float64 else 1e-3
    return bool(((found - expected).abs() <= tolerance * expected.abs().max()).all())
