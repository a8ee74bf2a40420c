"""The curvature of the mean training loss: its products with vectors, and as a sum of squares."""

from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..representation._layers import run_to
from ..representation._per_sample import join_terms, per_sample_gradients, plan_gradients


@contextmanager
def twice_differentiable(module, parameters):
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
    """
    flags = [p.requires_grad for p in parameters]
    fused = torch.backends.mkldnn.enabled
    try:
        for p in parameters:
            p.requires_grad_(True)
        # Fused recurrent and attention kernels have first derivatives only.
        if any(isinstance(m, nn.RNNBase) for m in module.modules()):
            torch.backends.mkldnn.enabled = False
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mkldnn.enabled = fused
        for p, flag in zip(parameters, flags, strict=True):
            p.requires_grad_(flag)


def curvature_product(losses, parameters, batches, vector, curvature):
    r"""Multiply the curvature of the mean loss with a vector.

    Parameters
    ----------
    losses : Losses
        Of the network.
    parameters : list of torch.Tensor
        The parameters, p entries in all.
    batches : iterable of torch.Tensor
        All samples.
    vector : torch.Tensor of shape (p,)
        The vector.
    curvature : {"hessian", "gauss_newton"}
        The Hessian, or :math:`\frac 1 n \sum_n J_n^\top S_n J_n`, J the network's Jacobian and S
        the Hessian of the loss in the network's output.

    Returns
    -------
    product : torch.Tensor of shape (p,)
        In the vector's dtype.
    """
    one = _hessian_product if curvature == "hessian" else _gauss_newton_product
    parts = vector.to(parameters[0].dtype).split([p.numel() for p in parameters])
    parts = [v.view_as(p) for v, p in zip(parts, parameters, strict=True)]
    total, n = torch.zeros_like(vector), 0
    with twice_differentiable(losses.module, parameters):
        for x in batches:
            for product in one(losses, parameters, x, parts):
                total += _flat(product, parameters).to(vector.dtype)
            n += len(x)
    return total / n


def _hessian_product(losses, parameters, x, vector):
    grads = torch.autograd.grad(losses(x).sum(), parameters, create_graph=True, allow_unused=True)
    inner = _inner(grads, vector)
    if inner.requires_grad:
        yield torch.autograd.grad(inner, parameters, allow_unused=True)


def _gauss_newton_product(losses, parameters, x, vector):
    inputs = losses.inputs(x)
    for part in inputs:
        output = losses.module(part)
        probe = torch.zeros_like(output, requires_grad=True)
        grads = torch.autograd.grad(output, parameters, probe, create_graph=True, allow_unused=True)
        (along,) = torch.autograd.grad(_inner(grads, vector), probe)
        weights = _output_hessian(losses, output, x)(along) / len(inputs)
        yield torch.autograd.grad(output, parameters, weights, allow_unused=True)


def _output_hessian(losses, output, x):
    """Make the function that multiplies with S, the Hessian of the losses in the output."""
    leaf = output.detach().requires_grad_()
    (slope,) = torch.autograd.grad(losses.compare(leaf, x).sum(), leaf, create_graph=True)

    def product(direction):
        if not slope.requires_grad:
            return torch.zeros_like(direction)
        (found,) = torch.autograd.grad(slope, leaf, direction, retain_graph=True, allow_unused=True)
        return torch.zeros_like(direction) if found is None else found

    return product


def _inner(grads, vector):
    return sum((g * v).sum() for g, v in zip(grads, vector, strict=True) if g is not None)


def _flat(grads, parameters):
    parts = [
        torch.zeros_like(p) if g is None else g for g, p in zip(grads, parameters, strict=True)
    ]
    return torch.cat([g.detach().flatten() for g in parts])


class GaussNewtonRows:
    r"""The Gauss–Newton matrix as :math:`A^\top A`, A having few rows for each sample.

    What the parameters do passes the output z of one part of the network, its waist: the code of
    an autoencoder whose encoder's parameters are looked at. With D the Jacobian of the network's
    output in z, :math:`D^\top S D = L L^\top`, and the rows of a sample are the gradients of
    :math:`\langle L_j, z \rangle`, as many as z has entries.

    Parameters
    ----------
    losses : Losses
        Of the network.
    plan : GradientPlan
        Of the losses' gradients; says which parameters.
    x : torch.Tensor of shape (2, ...)
        Two samples.
    waist : nn.Module or None
        The part whose output is tried as z. Where parameters act otherwise too, and for None, z is
        the network's output.

    Attributes
    ----------
    n_rows : int
        Number of rows of a sample, over all draws of a random pretext task.
    """

    def __init__(self, losses, plan, x, waist=None):
        self._losses, self._names = losses, list(plan.parameters)
        self._parameters = list(plan.parameters.values())
        self._waist = waist if waist is not None and self._is_waist(waist, x) else None
        inputs = losses.inputs(x)
        self._n_draws = len(inputs)
        with torch.no_grad():
            z = self._at_waist(inputs[0]).flatten(1)
        self.size = z.shape[1]
        self.n_rows = self.size * self._n_draws
        self._plan = plan_gradients(
            lambda x: self._at_waist(x).flatten(1).square().sum(dim=1),
            losses.module,
            self._names,
            x,
        )

    def _is_waist(self, waist, x):
        """Tell whether the parameters act through this part's output only."""
        calls = []

        def cut(_module, _args, output):
            calls.append(output)
            return output.detach() if isinstance(output, torch.Tensor) else output

        handle = waist.register_forward_hook(cut)
        try:
            with twice_differentiable(self._losses.module, self._parameters):
                loss = self._losses(x).sum()
                grads = [None]
                if loss.requires_grad:
                    grads = torch.autograd.grad(loss, self._parameters, allow_unused=True)
        finally:
            handle.remove()
        once = len(calls) == len(self._losses.inputs(x))
        tensor = isinstance(calls[0], torch.Tensor) if calls else False
        return once and tensor and len(calls[0]) == len(x) and all(g is None for g in grads)

    def _at_waist(self, x):
        if self._waist is None:
            return self._losses.module(x)
        return run_to(self._losses.module, self._waist, x)[0]

    def _after_waist(self, x):
        """Return z, not attached to what it was made of, and the network's output."""
        if self._waist is None:
            output = self._losses.module(x).detach().requires_grad_()
            return output, output
        held = []

        def cut(_module, _args, output):
            held.append(output.detach().requires_grad_())
            return held[0].clone()

        handle = self._waist.register_forward_hook(cut)
        try:
            output = self._losses.module(x)
        finally:
            handle.remove()
        return held[0], output

    def _roots(self, part, x):
        """Roots L of the curvature in z, (n, size, size)."""
        with twice_differentiable(self._losses.module, []):
            z, output = self._after_waist(part)
            product = _output_hessian(self._losses, output, x)
            probe = torch.zeros_like(output, requires_grad=True)
            slopes = None
            if z is not output:
                (slopes,) = torch.autograd.grad(output, z, probe, create_graph=True)
            columns = []
            for j in range(self.size):
                unit = torch.zeros_like(z).flatten(1)
                unit[:, j] = 1
                unit = unit.view_as(z)
                if slopes is None:
                    columns.append(product(unit))
                    continue
                (along,) = torch.autograd.grad(slopes, probe, unit, retain_graph=True)
                (back,) = torch.autograd.grad(output, z, product(along), retain_graph=True)
                columns.append(back)
        matrix = torch.stack([c.detach().flatten(1) for c in columns], dim=2).double()
        values, vectors = torch.linalg.eigh((matrix + matrix.transpose(1, 2)) / 2)
        # What is negative is rounding, or a loss that is not convex: left out, as is usual.
        return vectors * values.clamp(min=0).sqrt().unsqueeze(1)

    def rows(self, x, n_samples, probes=None):
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
            Gradients, all samples' first rows first.
        """
        found = []
        for part in self._losses.inputs(x):
            roots = self._roots(part, x)
            if probes is not None:
                roots = roots @ probes.to(roots)
            roots = (roots / (n_samples * self._n_draws) ** 0.5).to(part.dtype)
            for j in range(roots.shape[2]):

                def along(x, direction=roots[:, :, j]):
                    return (self._at_waist(x).flatten(1) * direction).sum(dim=1)

                found.append(self._gradients(along, part))
        return join_terms(found)

    def _gradients(self, along, part):
        plan = self._plan
        if not plan.rest:
            return per_sample_gradients(along, self._losses.module, part, plan)
        # A loop goes over samples one by one, and each has a direction of its own.
        rows = []
        for i in range(len(part)):
            direction = along.__defaults__[0][i : i + 1]
            rows.append(
                per_sample_gradients(
                    lambda x, d=direction: along(x, d), self._losses.module, part[i : i + 1], plan
                )
            )
        return join_terms(rows)
