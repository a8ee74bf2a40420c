"""Inputs that no gradient reaches although changing them changes the output."""

import numpy as np
import torch

from ..exceptions import UnreachedInputWarning
from ..utils import normal, spread_places, warn
from ._methods import PERTURBATION_METHODS

_N_ROWS = 100
# Rows whose changed entries turn out to have a gradient are tried again, up to this many times.
_N_ROUNDS = 3
_N_TESTS = 64
_N_NAMED = 5


def warn_of_unreached(representation, inputs, names=None, *, batch_size, encode=None, seed=0):
    """Warn of entries whose gradient is 0 although the output depends on them.

    A lookup, a rounding or a comparison passes no gradient on, so that methods that need gradients
    attribute nothing to what it reads.

    Parameters
    ----------
    representation : Representation
        The network, in whose session it runs.
    inputs : ndarray of shape (n, ...)
        Samples as they enter the network; at most 100 of them are used.
    names : array-like of str or None, default=None
        Names of the raw columns.
    batch_size : int
        Most rows in the network at once.
    encode : callable or None, default=None
        What is explained, from tensors (b, ...) to (b, N); None: ``representation`` itself.
    seed : int, default=0
        Of the random function whose gradient is looked at.

    Warns
    -----
    UnreachedInputWarning
        Naming the columns or positions.
    """
    rows = spread_places(len(inputs), _N_ROWS)
    with representation.session(), torch.no_grad():
        probe = _Probe(representation, encode, inputs[rows], batch_size, seed)
        entries = probe.unreached()
    if len(entries):
        warn(
            f"no gradient reaches {_listed(entries, representation.head, inputs.shape[1:], names)} "
            f"although a change there changes the output, on the {len(rows)} samples looked at (a "
            "lookup, a rounding or a comparison), so methods that need gradients attribute nothing "
            f"there: use one that needs none, {_either(PERTURBATION_METHODS)}.",
            UnreachedInputWarning,
        )


class _Probe:
    """Some samples, what the network makes of them, and of changed ones."""

    def __init__(self, representation, encode, inputs, batch_size, seed):
        self.eps = representation.eps
        self.encode = representation if encode is None else encode
        self.in_blocks = representation.in_blocks
        self.block_rows = representation.block_rows(batch_size)
        self.x = representation.tensor(inputs).clone()
        self.generator = torch.Generator().manual_seed(seed)
        self.z = None
        self.n_tests = 0

    def unreached(self):
        """Positions, in flat samples, of entries without a gradient that matter."""
        reached, self.z = self._reached(self.x)
        same = (self.x == self.x[:1]).all(dim=0).flatten()  # an exchange of equals changes nothing
        entries = torch.nonzero(~reached & ~same).flatten()
        try:
            return self._sieved(entries) if len(self.x) > 1 else []
        except Exception:  # the exchange made samples that the network does not take
            return []

    def _sieved(self, entries):
        """Keep the entries that matter and have no gradient after an exchange either."""
        # Where units are off on all samples, the exchange may turn some on: then there is a
        # gradient, and nothing but the samples at hand is to blame.
        for _ in range(_N_ROUNDS):
            if not len(entries) or not self._matter(entries):
                return []
            live = self._reached(self._exchanged(entries))[0][entries]
            if not live.any():
                return self._culprits(entries) if self._repeats() else []
            entries = entries[~live]
        return []

    def _run(self, function, x):
        """Call a function of some samples on all, block by block."""
        rows = self.block_rows
        blocks = self.in_blocks(lambda part: function(x[part]), len(x), rows, lambda: rows)
        return [result for _, result in blocks]

    def _reached(self, x):
        """Entries with a gradient anywhere, and the representations."""
        reached = torch.zeros(x[0].numel(), dtype=torch.bool, device=x.device)

        def run(block):
            block = block.detach().clone().requires_grad_()
            with torch.enable_grad():
                z = self.encode(block)
            if z.requires_grad:
                cotangent = normal(self.generator, *z.shape).to(z)
                (gradient,) = torch.autograd.grad(z, block, cotangent, allow_unused=True)
                if gradient is not None:
                    reached.logical_or_((gradient != 0).any(dim=0).flatten())
            return z.detach()

        latents = self._run(run, x)
        return reached, torch.cat(latents)

    def _exchanged(self, entries):
        """Give every sample the entries of the one before it."""
        flat = self.x.flatten(1).clone()
        flat[:, entries] = torch.roll(flat[:, entries], 1, dims=0)
        return flat.view_as(self.x)

    def _differs(self, x):
        z = torch.cat(self._run(lambda block: self.encode(block.clone()), x))
        eps = max(torch.finfo(z.dtype).eps, self.eps)
        rounding = 100 * eps * self.z.abs().amax(dim=1, keepdim=True)
        return bool(((z - self.z).abs() > rounding).any())

    def _matter(self, entries):
        self.n_tests += 1
        return self._differs(self._exchanged(entries))

    def _repeats(self):
        """Whether the same samples give the same output: else no conclusion is possible."""
        return not self._differs(self.x)

    def _culprits(self, entries):
        """Bisect to the entries that matter by themselves; what matters jointly stays together."""
        if len(entries) == 1 or self.n_tests >= _N_TESTS:
            return entries.tolist()
        middle = len(entries) // 2
        halves = [h for h in (entries[:middle], entries[middle:]) if self._matter(h)]
        if not halves:
            return entries.tolist()
        return [entry for half in halves for entry in self._culprits(half)]


def _listed(entries, head, shape, names):
    """Columns by name or number, or positions in a sample; a few of many."""
    if head is not None:
        entries = np.unique(head.columns[entries])
    if head is None and len(shape) > 1:
        kind = "position"
        labels = [str(tuple(int(i) for i in np.unravel_index(e, shape))) for e in entries]
    else:
        kind = "column"
        labels = [str(e) if names is None else repr(str(names[e])) for e in entries]
    more = f" and {len(labels) - _N_NAMED} more" if len(labels) > _N_NAMED else ""
    plural = "s" if len(labels) > 1 else ""
    return f"{kind}{plural} {', '.join(labels[:_N_NAMED])}{more}"


def _either(methods):
    *first, last = map(repr, methods)
    return f"{', '.join(first)} or {last}"
