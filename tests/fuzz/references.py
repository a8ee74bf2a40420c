"""What is right, by loops over samples and by finite differences, in float64."""

import copy

import numpy as np
import torch

# A step, relative to numbers of size 1; what is left of rounding is 1e-10.
H = 1e-6


def twin(net):
    """Copy a network to float64, in eval mode."""
    return copy.deepcopy(net).double().eval()


def outputs(net, X):
    """Outputs of samples: (n, N)."""
    with torch.no_grad():
        return net(torch.from_numpy(np.array(X, dtype=np.float64))).flatten(1).numpy()


def input_gradients(net, X, weights):
    """Gradients of <weights, f(.)> of every sample by its own entries, by central differences.

    Parameters
    ----------
    net : nn.Module
        In float64.
    X : ndarray of shape (n, ...)
    weights : ndarray of shape (n, N)

    Returns
    -------
    gradients : ndarray of the shape of X
        NaN where the slopes of both sides differ: at a kink.
    """
    X = np.asarray(X, dtype=np.float64)
    flat = X.reshape(len(X), -1)
    steps = H * np.eye(flat.shape[1])
    rows = np.stack([flat[:, None] + steps, flat[:, None] - steps], axis=1)
    values = outputs(net, rows.reshape(-1, *X.shape[1:])).reshape(*rows.shape[:3], -1)
    up, down = np.einsum("nsdk,nk->snd", values, weights)
    middle = (outputs(net, X) * weights).sum(axis=1)[:, None]
    slopes = (up - down) / (2 * H)
    smooth = np.abs((up - middle) - (middle - down)) / H <= 1e-3 * _scale(slopes)
    return np.where(smooth, slopes, np.nan).reshape(X.shape)


def _scale(values):
    return max(np.abs(values).max(initial=0.0), 1e-3)


# -- points at which gradients are taken -----------------------------------------------------------


def points(method, n_points, n_rows, X, seed):
    """Return (position, weight, baseline row, noise, whether times the difference) of each."""
    rng = np.random.RandomState(seed)
    if method == "saliency":
        return [(1.0, 1.0, 0, 0.0, False)]
    if method == "input_x_gradient":
        return [(1.0, 1 / n_rows, row, 0.0, True) for row in range(n_rows)]
    if method == "integrated_gradients":
        nodes, weights = np.polynomial.legendre.leggauss(n_points)
        pairs = list(zip((nodes + 1) / 2, weights / 2 / n_rows, strict=True))
        return [(t, w, row, 0.0, True) for row in range(n_rows) for t, w in pairs]
    if method == "gradient_shap":
        rows = rng.randint(n_rows, size=n_points)
        positions = rng.uniform(size=n_points)
        return [(t, 1 / n_points, row, 0.0, True) for t, row in zip(positions, rows, strict=True)]
    # A tenth of the range: of each column of tables, else of all numbers.
    spread = np.ptp(X, axis=0 if X.ndim == 2 else None)
    noise = rng.normal(size=(n_points, *X.shape[1:])) * 0.1 * spread
    return [(1.0, 1 / n_points, 0, e, False) for e in noise]


def uniform_noise(X, n_noise, seed):
    """Inputs without structure, in the range of the data."""
    low, high = np.percentile(X, [1, 99], axis=0 if X.ndim == 2 else None)
    rng = np.random.default_rng([seed, 0])
    return rng.uniform(low, high, size=(n_noise, *X.shape[1:]))


# -- gradients by parameters -----------------------------------------------------------------------


def sample_losses(net, X, loss):
    x = torch.from_numpy(np.array(X, dtype=np.float64))
    return loss(net(x.clone()), x)


def loss_gradients(net, X, loss, names):
    """Each sample's gradient by the named parameters, one pass a sample: (n, p)."""
    parameters = _named(net, names)
    rows = []
    for sample in X:
        value = sample_losses(net, sample[None], loss).sum()
        grads = torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)
        rows.append(torch.cat([g.flatten() for g in grads]))
    return torch.stack(rows).numpy()


def _named(net, names):
    table = dict(net.named_parameters())
    found = [table[name] for name in names]
    for parameter in found:
        parameter.requires_grad_()
    return found


class _Moved:
    """The network with its parameters moved by a vector, for a while."""

    def __init__(self, net, names, vector):
        self.parameters = _named(net, names)
        self.before = [p.detach().clone() for p in self.parameters]
        self.vector = vector

    def __enter__(self):
        i = 0
        with torch.no_grad():
            for p in self.parameters:
                p += torch.from_numpy(self.vector[i : i + p.numel()]).view_as(p)
                i += p.numel()

    def __exit__(self, *_):
        with torch.no_grad():
            for p, old in zip(self.parameters, self.before, strict=True):
                p.copy_(old)


def slopes_along(net, X, loss, names, direction):
    """Derivative of each sample's loss along a direction of the parameters; NaN at a kink."""
    values = []
    for step in (-H, 0.0, H):
        with _Moved(net, names, step * direction), torch.no_grad():
            values.append(sample_losses(net, X, loss).numpy())
    down, middle, up = values
    slopes = (up - down) / (2 * H)
    smooth = np.abs((up - middle) - (middle - down)) / H <= 1e-3 * _scale(slopes)
    return np.where(smooth, slopes, np.nan)


def curvature(net, X, loss, names, kind, weights):
    """Curvature of the mean loss, from differences of outputs or of gradients; None at a kink.

    ``weights``: the second derivative of a sample's loss by its output, (N, N).
    """
    n_parameters = sum(p.numel() for p in _named(net, names))
    columns = []
    for k in range(n_parameters):
        values = []
        for step in (-H, 0.0, H):
            vector = np.zeros(n_parameters)
            vector[k] = step
            with _Moved(net, names, vector):
                if kind == "gauss_newton":
                    values.append(outputs(net, X))
                else:
                    values.append(_mean_gradient(net, X, loss, names))
        down, middle, up = values
        column = (up - down) / (2 * H)
        if np.abs((up - middle) - (middle - down)).max() / H > 1e-3 * _scale(column):
            return None
        columns.append(column)
    if kind == "hessian":
        matrix = np.stack(columns)
        return (matrix + matrix.T) / 2
    jacobian = np.stack(columns, axis=-1)  # (n, N, p)
    return np.einsum("nip,ij,njq->pq", jacobian, weights, jacobian) / len(X)


def _mean_gradient(net, X, loss, names):
    grads = torch.autograd.grad(
        sample_losses(net, X, loss).mean(),
        _named(net, names),
        allow_unused=True,
        materialize_grads=True,
    )
    return torch.cat([g.flatten() for g in grads]).numpy()


# -- maps of layers --------------------------------------------------------------------------------


def unit_maps(net, name, x, channel_axis, batch_axis, saliency):
    """Saliencies of every unit at a layer, for one sample: (N, channels, positions)."""
    kept = []

    def keep(_module, _inputs, output):
        first = output[0] if isinstance(output, tuple) else output
        kept.append(first)
        # Another tensor goes on, which the network may write into.
        copied = first.clone()
        return (copied, *output[1:]) if isinstance(output, tuple) else copied

    handle = net.get_submodule(name).register_forward_hook(keep)
    z = net(torch.from_numpy(np.array(x, dtype=np.float64))[None]).flatten()
    handle.remove()
    activation = kept[-1]
    maps = []
    for unit in z:
        (gradient,) = torch.autograd.grad(
            unit, activation, retain_graph=True, materialize_grads=True
        )
        s = gradient if saliency == "gradient" else gradient * activation
        s = s.detach().select(batch_axis, 0)
        s = s.reshape(1, -1) if channel_axis is None else s.movedim(channel_axis, 0).flatten(1)
        maps.append(s.numpy())
    return np.stack(maps)


def aggregated(values, how, axis):
    """Aggregate, and say how large what was summed is."""
    size = np.abs(values).mean(axis=axis)
    if how == "abs":
        return size, size
    if how == "mean":
        return values.mean(axis=axis), size
    n = values.shape[axis]
    variance = values.var(axis=axis, ddof=1) if n > 1 else np.zeros_like(size)
    return variance, size**2


def scaled(map_, size):
    """Scale to [0, 1]; zeros where a map varies by the rounding of what it is made of."""
    low, high = map_.min(), map_.max()
    if high - low <= 1e-9 * max(size.max(), 1e-300):
        return np.zeros_like(map_)
    return (map_ - low) / (high - low)
