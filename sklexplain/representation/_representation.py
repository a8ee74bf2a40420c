"""A representation: what an estimator makes of its input, as one function of tensors."""

import copy
import threading
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from ._heads import to_dense
from ._layers import parse_path, pick, run_to, unknown_layer
from ._resolve import (
    OFFERS,
    Branches,
    Chain,
    NoTorchForm,
    Scaled,
    Stage,
    decompose,
    torch_modules,
    unwrap,
)

# Measured on small convolutional, recurrent and dense encoders: larger blocks leave the cache,
# smaller ones pay the overhead of a call.
_CACHE_BYTES = 8 * 2**20
_MIN_BLOCK = 128

# Modes and gradients flags are switched on shared modules: one thread at a time.
_LOCK = threading.RLock()

_SPATIAL_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._BatchNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.GroupNorm,
)
_CHANNELS_LAST = (nn.RNNBase, nn.Linear, nn.LayerNorm, nn.MultiheadAttention)


class Representation:
    """What an estimator, or one of its layers, makes of samples: x in R^d to z in R^N.

    Parameters
    ----------
    estimator : nn.Module or fitted estimator
        What is explained; never changed.
    layer : str or None, default=None
        Submodule whose output is the representation, as in ``named_modules()``, with ``[i]`` for
        an item of a tuple. None: what the estimator offers: ``transform``, else
        ``predict_proba``, else ``predict``; a module's ``forward``.
    device : str, torch.device or None, default=None
        Where the network runs. None: where it is. Another device gets a copy of the network.
    seed : int, default=0
        Seed of the torch generator for networks that draw random numbers even in eval mode.

    Attributes
    ----------
    differentiable : bool
        Whether there is a torch path from input to representation.
    no_torch_form : str or None
        The step that prevents it.
    head : Head or None
        Preprocessing run as it is, before the torch path.
    input_dtype, output_dtype : torch.dtype
        Of the tensors at the torch path's entry, and of explanations.
    n_units : int
        N, known after `probe`.
    device : torch.device
        Where the network runs.

    Raises
    ------
    ValueError
        If the layer does not exist, or is asked for where there is no torch path.
    """

    def __init__(self, estimator, n_columns, *, layer=None, device=None, seed=0):
        self.estimator = unwrap(estimator)
        self.layer = layer
        self.seed = seed
        self.no_torch_form = None
        self.head = None
        self.chain = None
        try:
            parts = decompose(self.estimator, n_columns, layer)
        except NoTorchForm as error:
            self.no_torch_form = str(error)
        else:
            self.head, self.chain = parts.head, parts.module
        self._offered = next((n for n in OFFERS if hasattr(self.estimator, n)), None)
        self._batch_axis = 0
        self._move(device)
        self._find_layer()
        self._set_dtypes()

    # -- construction --------------------------------------------------------------------------

    def _move(self, device):
        where = {p.device for p in self.chain.parameters()} if self.chain is not None else set()
        self.device = next(iter(where), torch.device("cpu"))
        if device is None:
            wanted = self.device
        else:
            wanted = torch.device(device)
        if self.chain is None:
            self.device = torch.device("cpu")
        elif wanted != self.device:
            # Moving a module moves its parameters in place: the user's stays where it is.
            self.chain = copy.deepcopy(self.chain).to(wanted)
            self.device = wanted
        elif wanted.type != "cpu":
            for module in self.chain.modules():
                if not isinstance(module, Stage):  # buffers of converted steps
                    module.to(wanted)

    def _find_layer(self):
        self._path = None
        if self.layer is None:
            return
        if self.chain is None:
            raise ValueError(
                f"layer={self.layer!r} needs a network; {self.no_torch_form} has no torch form. "
                "Use layer=None to explain what the estimator itself returns."
            )
        if not isinstance(self.layer, str):
            raise TypeError(f"layer={self.layer!r} must be a string or None.")
        name, items = parse_path(self.layer)
        table = layer_table(self.chain)
        if name not in table:
            raise unknown_layer(name, table)
        module, stage = table[name]
        self._path = (module, items)
        self._stage = stage
        self._n_calls = 1

    def _set_dtypes(self):
        stages = [] if self.chain is None else list(_stages(self.chain))
        dtypes = [stage.dtype or torch.get_default_dtype() for stage in stages]
        self.output_dtype = dtypes[-1] if dtypes else torch.float64
        self.input_dtype = dtypes[0] if isinstance(self.chain, Stage) else torch.float64

    @property
    def differentiable(self):
        """Whether there is a torch path from the input to the representation."""
        return self.chain is not None and self.input_dtype.is_floating_point

    @property
    def takes_integers(self):
        """Whether the network takes integers, token numbers for example."""
        return not self.input_dtype.is_floating_point

    def probe(self, inputs):
        """Run the network on two samples, to learn its output's size and catch misfits early.

        Parameters
        ----------
        inputs : ndarray of shape (n, *shape)
            What `inputs` returned; the first sample or two are used.

        Returns
        -------
        self : Representation

        Raises
        ------
        ValueError
            If the network cannot run on them, or its output does not follow the samples.
        TypeError
            If the network takes integers and was given other numbers.
        """
        two = inputs[[0, min(1, len(inputs) - 1)]]
        with self.session(), torch.no_grad():
            if self._path is not None:
                self._count_calls(two)
            shapes = [tuple(self._try(self._run, two[:n]).shape) for n in (1, 2)]
        if len(shapes[0]) != len(shapes[1]):
            axes = []
        else:
            pairs = zip(*shapes, strict=True)
            axes = [i for i, pair in enumerate(pairs) if pair == (1, 2)]
        if not axes:
            what = "the network" if self.layer is None else f"layer {self.layer!r}"
            raise ValueError(
                f"{what} returned shape {shapes[0]} for one sample and {shapes[1]} for two: no "
                "axis of its output follows the samples, so it gives them no representation."
            )
        self._batch_axis = axes[0]
        self.n_units = int(np.prod(shapes[1])) // 2
        self._bytes_per_row = self._saved_bytes(two)
        return self

    def _saved_bytes(self, two):
        """Bytes that one row's forward pass keeps for the backward pass."""
        if not self.differentiable:
            return 0
        sizes = []

        def pack(tensor):
            sizes[-1] += tensor.numel() * tensor.element_size()
            return tensor

        with self.session(), torch.enable_grad():
            for n in (1, 2):
                sizes.append(0)
                with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                    self._run(self.tensor(two[:n]).requires_grad_())
        return max(1, sizes[1] - sizes[0])

    def block_rows(self, batch_size):
        """Return the number of rows to run at once: activations stay in the processor's cache.

        Parameters
        ----------
        batch_size : int
            Most rows allowed.

        Returns
        -------
        n_rows : int
            At most ``batch_size``; on a GPU, or without a torch path, just that.
        """
        if not self.differentiable or self.device.type != "cpu":
            return batch_size
        return min(batch_size, max(_MIN_BLOCK, _CACHE_BYTES // self._bytes_per_row))

    def _count_calls(self, two):
        count = self._try(lambda x: run_to(self.chain, self._path[0], x, None)[1], two)
        if count == 0 and self._stage is not None and self._stage.method != "forward":
            self._stage.method = "forward"  # a decoder's layer is past the encoder
            count = self._try(lambda x: run_to(self.chain, self._path[0], x, None)[1], two)
        if count == 0:
            raise ValueError(
                f"layer={self.layer!r} is never called when the network runs on this input, so "
                "it has no activations; name a layer that is."
            )
        self._n_calls = count

    def _try(self, function, inputs):
        """Run on numbers as they are; where that fails and they are integers, as integers."""
        try:
            return function(self.tensor(inputs))
        except (RuntimeError, IndexError, TypeError, ValueError) as error:
            if not isinstance(self.chain, Stage):
                raise self._misfit(inputs, error) from error
            return self._try_integers(function, inputs, error)

    def _try_integers(self, function, inputs, error):
        if self.takes_integers:
            raise self._misfit(inputs, error) from error
        integers = np.asarray(inputs).astype(np.int64)
        dtype, self.input_dtype = self.input_dtype, torch.int64
        self.chain.takes_integers = True
        try:
            result = function(self.tensor(integers))
        except (RuntimeError, IndexError, TypeError, ValueError):
            self.input_dtype, self.chain.takes_integers = dtype, False
            raise self._misfit(inputs, error) from error
        if not np.issubdtype(inputs.dtype, np.integer):
            raise TypeError(
                f"the network takes integers (token numbers, for example) but X has dtype "
                f"{inputs.dtype}; pass X.astype('int64')."
            ) from error
        return result

    def _misfit(self, inputs, error):
        shape = ("n", *inputs.shape[1:])
        return ValueError(
            f"the network could not run on X of shape ({', '.join(map(str, shape))}): {error}. "
            "X must have the shape the network takes; axes are never swapped."
        )

    # -- running -------------------------------------------------------------------------------

    def inputs(self, X):
        """Numbers at the entry of the torch path (or of the black box), on the CPU.

        Parameters
        ----------
        X : ndarray or DataFrame
            Validated samples in raw units.

        Returns
        -------
        inputs : ndarray of shape (n, *shape)
            X itself, or what the head made of it, in float64.

        Raises
        ------
        ValueError
            If the head's output is not finite.
        """
        if self.head is None:
            return X
        inputs = self.head(named(X, self.estimator))
        bad = ~np.isfinite(inputs).all(axis=0)
        if bad.any():
            column = self.head.columns[np.flatnonzero(bad)[0]]
            names = getattr(self.estimator, "feature_names_in_", None)
            column = column if names is None else repr(str(names[column]))
            raise ValueError(
                f"column {column} still contains NaN or infinity after preprocessing; impute it "
                "in the Pipeline (SimpleImputer) or clean it."
            )
        return inputs

    def tensor(self, inputs):
        """Tensor of inputs in the torch path's dtype, on its device."""
        inputs = np.asarray(inputs)
        # Torch takes neither read-only memory, negative strides nor a foreign byte order.
        inputs = np.require(inputs, dtype=inputs.dtype.newbyteorder("="), requirements=["C", "W"])
        return torch.as_tensor(inputs).to(self.device, self.input_dtype)

    def _run(self, x):
        if self.chain is None:
            return self._call_estimator(x)
        if self._path is None:
            output, items = self.chain(x), ()
        else:
            module, items = self._path
            output, _ = run_to(self.chain, module, x, self._n_calls)
        return pick(output, items, self.layer or "")

    def _call_estimator(self, x):
        X = named(x.cpu().numpy(), self.estimator)
        out = to_dense_numbers(getattr(self.estimator, self._offered)(X), self._offered)
        return torch.from_numpy(out)

    def __call__(self, x):
        """Representation of a batch: (b, *shape) to (b, N), differentiable where it can be."""
        output = self._run(x)
        return output.movedim(self._batch_axis, 0).reshape(len(x), -1)

    def activations(self, inputs, batch_size):
        """Representations of all samples, a batch at a time.

        Parameters
        ----------
        inputs : ndarray of shape (n, *shape)
            What `inputs` returned.
        batch_size : int
            Most samples in the network at once.

        Returns
        -------
        z : ndarray of shape (n, N)
        """
        with self.session(), torch.no_grad():
            parts = [
                self(self.tensor(inputs[i : i + batch_size])).to(self.output_dtype).cpu().numpy()
                for i in range(0, len(inputs), batch_size)
            ]
        return np.concatenate(parts)

    def channel_axis(self, ndim):
        """Axis of a sample's array that holds channels, None if there is no telling.

        Parameters
        ----------
        ndim : int
            Number of dimensions of X, samples included.

        Returns
        -------
        axis : int or None
            Counted in one sample's array: images have their channels at 0; for series the
            network's first layer tells.
        """
        if ndim == 4:
            return 0
        if ndim != 3 or self.chain is None:
            return None
        for module in self.chain.modules():
            if isinstance(module, _SPATIAL_FIRST):
                return 0
            if isinstance(module, _CHANNELS_LAST):
                return 1
        return None

    def session(self):
        """Context in which the network is run: eval mode, no parameter gradients; all restored."""
        modules = list(torch_modules(self.estimator))
        if self.chain is not None:
            modules.append(self.chain)
        return frozen(modules, self.device, self.seed)


def to_dense_numbers(out, method):
    """Return an estimator's output as a float64 array of shape (n, N).

    Parameters
    ----------
    out : array-like or sparse matrix
        What the estimator returned.
    method : str
        Its method, for the error message.

    Returns
    -------
    out : ndarray of shape (n, N)

    Raises
    ------
    TypeError
        If they are no numbers.
    """
    try:
        out = to_dense(out)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{method} returned {np.asarray(out).dtype} labels, not numbers; explain an estimator "
            "with transform or predict_proba."
        ) from error
    return out.reshape(len(out), -1)


def named(X, estimator):
    """X as a DataFrame if the estimator was fitted on one and X is not one.

    Parameters
    ----------
    X : ndarray or DataFrame
        Samples.
    estimator : estimator
        Whose ``feature_names_in_`` are used.

    Returns
    -------
    X : ndarray or DataFrame
    """
    names = getattr(estimator, "feature_names_in_", None)
    if names is None or hasattr(X, "columns"):
        return X
    try:
        import pandas
    except ImportError:
        import polars

        return polars.DataFrame(X, schema=list(names))
    return pandas.DataFrame(X, columns=names)


def _stages(module):
    return (m for m in module.modules() if isinstance(m, Stage))


def layer_table(chain):
    """Every addressable layer of a chain.

    Parameters
    ----------
    chain : nn.Module
        The torch path.

    Returns
    -------
    layers : dict of str to (nn.Module, Stage or None)
        With the names of the Pipeline's steps in front, and without where the later steps have
        none of that name; the stage is the user's network the layer belongs to.
    """
    full = dict(_walk(chain, "", None))
    bare = {}
    if isinstance(chain, Chain):
        for child in chain.children():
            bare.update(_walk(child, "", None))
    return {**bare, **full}


def _walk(module, name, stage):
    if isinstance(module, Stage):
        for path, layer in module.module.named_modules():
            yield ".".join(filter(None, (name, path))), (layer, module)
    elif isinstance(module, Scaled):
        yield from _walk(module.module, name, stage)
    else:
        yield name, (module, stage)
        is_container = isinstance(module, (Chain, Branches, nn.Sequential))
        for path, child in module.named_children() if is_container else ():
            yield from _walk(child, ".".join(filter(None, (name, path))), stage)


@contextmanager
def frozen(modules, device, seed):
    """Run networks in eval mode without parameter gradients, and put everything back after.

    Parameters
    ----------
    modules : list of nn.Module
        The networks.
    device : torch.device
        Where they run.
    seed : int
        Seed of the generators inside, for networks that draw even in eval mode.

    Yields
    ------
    None
    """
    parts = {id(m): m for module in modules for m in module.modules()}.values()
    with _LOCK:
        modes = [(m, m.training) for m in parts]
        parameters = [(p, p.requires_grad) for m in parts for p in m.parameters(recurse=False)]
        buffers = [(b, b.clone()) for m in parts for b in m.buffers(recurse=False)]
        recurrent = any(isinstance(m, nn.RNNBase) for m in parts)
        # cuDNN refuses a backward pass of recurrent layers in eval mode.
        cudnn = torch.backends.cudnn.flags(enabled=not recurrent and torch.backends.cudnn.enabled)
        fast_path = torch.backends.mha.get_fastpath_enabled()
        cuda = [device] if device.type == "cuda" else []
        try:
            for module, _ in modes:
                module.training = False
            for parameter, _ in parameters:
                parameter.requires_grad_(False)
            # One arithmetic for attention, with gradients and without.
            torch.backends.mha.set_fastpath_enabled(False)
            with torch.random.fork_rng(devices=cuda), cudnn:
                _seed(cuda, seed)
                yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast_path)
            for module, mode in modes:
                module.training = mode
            for parameter, requires_grad in parameters:
                parameter.requires_grad_(requires_grad)
            for buffer, value in buffers:
                if not torch.equal(buffer, value):
                    buffer.copy_(value)


def _seed(cuda, seed):
    # torch.manual_seed would reseed every device, also those that are not put back.
    torch.default_generator.manual_seed(seed)
    for device in cuda:
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)
