"""A representation: what an estimator makes of its input, as one function of tensors."""

import copy

import numpy as np
import torch
from sklearn.exceptions import NotFittedError

from ..layers import (
    CHANNELS_FIRST,
    CHANNELS_LAST,
    batch_axis,
    find_points,
    parse_path,
    pick,
    run_to,
    unknown_layer,
)
from ..utils import check_columns_numeric
from ._convert import Identity
from ._heads import as_tensor, named, numpy_dtype
from ._modules import BlackBox, Stage, first_step, layer_table, stages, without_link
from ._resolve import NoTorchForm, Parts, black_box, decompose, torch_modules, unwrap
from ._session import checked_device, frozen

# Measured on small convolutional, recurrent and dense encoders: larger blocks leave the cache,
# smaller ones pay the overhead of a call.
_CACHE_BYTES = 12 * 2**20
_MIN_BLOCK = 128

# What a network raises on an input that does not fit it.
_NETWORK_ERRORS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError),
    *(RuntimeError, TypeError, ValueError),
)


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
    link : bool, default=True
        Whether probabilities are made of a classifier's scores; False: a skorch net is what its
        module returns, and scikit-learn's classifiers give their scores (logits).
    device : str, torch.device or None, default=None
        Where the network runs. None: where it is. Another device gets a copy of the network.
    seed : int, default=0
        Seed of the torch generator for networks that draw random numbers even in eval mode.
    parameter : str, default="layer"
        What error messages call ``layer``.
    several : bool, default=False
        Whether the network may return several tensors; the first stands for them.

    Attributes
    ----------
    differentiable : bool
        Whether gradients pass from the input to the representation, known after `probe`.
    no_torch_form : str or None
        The step that prevents it, known after `probe`.
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

    @torch.inference_mode(False)  # else the buffers made here would take part in no gradient
    def __init__(
        self,
        estimator,
        n_columns,
        *,
        layer=None,
        link=True,
        device=None,
        seed=0,
        parameter="layer",
        several=False,
    ):
        self.estimator = unwrap(estimator)
        self.layer = layer
        self.parameter = parameter
        self.seed = seed
        self._several, self._link = several, link
        try:
            parts = decompose(self.estimator, n_columns, layer if link else "")
            parts = parts if link else Parts(parts.head, without_link(parts.module))
        except NoTorchForm as error:
            parts = Parts(None, black_box(self.estimator, str(error)))
        self.head, self.chain = parts.head, parts.module
        self.no_torch_form = None
        self._batch_axis = 0
        self._in_place = True  # until the probe has seen that it is not
        self._move(device)
        self._boxes = [m for m in self.chain.modules() if isinstance(m, BlackBox)]
        self._find_layer()
        self._set_dtypes()

    # -- construction --------------------------------------------------------------------------

    def _move(self, device):
        networks = stages(self.chain)
        tensors = [t for net in networks for t in (*net.parameters(), *net.buffers())]
        self.device = tensors[0].device if tensors else torch.device("cpu")
        wanted = self.device if device is None else checked_device(device)
        if self.device.type == "meta":
            raise ValueError("the network is on the meta device, where it has no weights; load it.")
        if any(t.is_inference() for t in tensors):
            raise ValueError(
                "the network was made in torch.inference_mode(), where nothing has a gradient; "
                "load its state_dict() into one made outside."
            )
        if networks and wanted != self.device:
            # Moving a module moves its parameters in place: the user's stays where it is.
            self.chain = copy.deepcopy(self.chain).to(wanted)
            self.device = wanted
        ours = set(self.chain.modules()).difference(*(net.modules() for net in networks))
        for module in ours:
            for name, buffer in module._buffers.items():
                module._buffers[name] = buffer.to(self.device)

    def _find_layer(self):
        self._path = None
        if self.layer is None:
            return
        if isinstance(self.chain, BlackBox):
            raise ValueError(
                f"{self.parameter}={self.layer!r} needs a network; {self.chain.reason} has no "
                f"torch form. Use {self.parameter}=None to explain what the estimator returns."
            )
        if not isinstance(self.layer, str):
            raise TypeError(f"{self.parameter}={self.layer!r} must be a string or None.")
        name, items = parse_path(self.layer)
        table = layer_table(self.chain)
        if name not in table:
            raise unknown_layer(name, table, self.parameter)
        module, stage = table[name]
        self._path = (module, items)
        self._stage = stage
        self._n_calls = 1

    def _set_dtypes(self):
        # Of numpy's dtypes: what it has not, a network gets from and gives as float32.
        dtypes = [numpy_dtype(stage.dtype) for stage in stages(self.chain)]
        self._entry = first_step(self.chain)
        takes_inputs = isinstance(self._entry, Stage)
        self.input_dtype = dtypes[0] if takes_inputs else torch.float64
        self.output_dtype = dtypes[-1] if dtypes else torch.float64

    @property
    def differentiable(self):
        """Whether gradients pass from the input to the representation."""
        return self.no_torch_form is None and not self.takes_integers

    @property
    def takes_integers(self):
        """Whether the network takes integers, token numbers for example."""
        return not self.input_dtype.is_floating_point

    # -- probing -------------------------------------------------------------------------------

    def probe(self, inputs):
        """Run the network on a few samples, to learn its output's size and catch misfits early.

        Parameters
        ----------
        inputs : ndarray of shape (n, *shape)
            What `inputs` returned; the first three samples are used.

        Returns
        -------
        self : Representation

        Raises
        ------
        ValueError
            If the network cannot run on them, or its output does not follow the samples.
        TypeError
            If the network takes integers and was given other numbers, or returns labels.
        """
        if inputs.ndim > 2 and not isinstance(self._entry, (Stage, BlackBox, Identity)):
            raise self._misfit(inputs, "scikit-learn's steps take two dimensions")
        rows = inputs[np.arange(3) % len(inputs)]
        with self.session(), torch.no_grad():
            if self._path is not None:
                self._count_calls(rows)
            outputs = [self._try(self._forward, rows[:n]) for n in (2, 3)]
            outputs = [self._pick(output) for output in outputs]
            what = "the network" if self.layer is None else f"layer {self.layer!r}"
            self._batch_axis = batch_axis(*(tuple(output.shape) for output in outputs), what)
            x = self.tensor(rows).clone()
            self._in_place = False
            self._forward(x)
            self._in_place = x._version > 0
        if outputs[0].is_complex():
            raise TypeError("the network returns complex numbers; have it return real ones.")
        self.n_units = outputs[0].numel() // 2
        self._bytes_per_row = self._saved_bytes(rows)
        return self

    def _saved_bytes(self, rows):
        """Bytes that a row keeps for the backward pass; finds out whether there is one."""
        if self.takes_integers:
            return 0
        for box in self._boxes:
            box.reached = False
        sizes = []

        def pack(tensor):
            sizes[-1] += tensor.numel() * tensor.element_size()
            return tensor

        with self.session(), torch.enable_grad():
            for n in (2, 3):
                sizes.append(0)
                with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                    output = self._run(self.tensor(rows[:n]).clone().requires_grad_())
        self.no_torch_form = next((box.reason for box in self._boxes if box.reached), None)
        if self.no_torch_form is None and not output.requires_grad:
            name = type(self.estimator).__name__ if self.layer is None else f"layer {self.layer!r}"
            self.no_torch_form = f"{name}, whose output is detached from its input,"
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

    def _count_calls(self, rows):
        def call(x):  # no further than the layer's network
            return self.chain(x) if self._stage is None else run_to(self.chain, self._stage, x)

        def count(x):
            return run_to(call, self._path[0], x, None)[1]

        n_calls = self._try(count, rows)
        if n_calls == 0 and self._stage is not None and self._stage.method != "forward":
            self._stage.method = "forward"  # a decoder's layer is past the encoder
            n_calls = self._try(count, rows)
        if n_calls == 0:
            raise ValueError(
                f"{self.parameter}={self.layer!r} is never called when the network runs on this "
                "input, so it has no activations; name a layer that is."
            )
        self._n_calls = n_calls

    def _try(self, function, inputs):
        """Run on numbers as they are; where a network fails on them, on integers."""
        try:
            return function(self.tensor(inputs).clone())
        except NotFittedError:
            raise
        except _NETWORK_ERRORS as error:
            if self._boxes and not stages(self.chain):
                raise
            if self.takes_integers or not isinstance(self._entry, Stage):
                raise self._misfit(inputs, error) from error
            return self._try_integers(function, inputs, error)

    def _try_integers(self, function, inputs, error):
        dtype, self.input_dtype = self.input_dtype, torch.int64
        self._entry.takes_integers = True
        given = np.issubdtype(inputs.dtype, np.integer)
        try:
            result = function(self.tensor(inputs))
        except _NETWORK_ERRORS as second:
            self.input_dtype, self._entry.takes_integers = dtype, False
            message = f"{error}; as integers: {second}" if given else error
            raise self._misfit(inputs, message) from error
        if not given:
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
            If the head's output is not finite, or X holds other things than numbers and there is
            no head to encode them.
        """
        if self.head is None:
            return _as_numbers(X)
        X = X.copy() if isinstance(X, np.ndarray) else X  # an imputer may write into it
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
        return as_tensor(np.asarray(inputs)).to(self.device, self.input_dtype)

    def _forward(self, x):
        """Run as far as needed; return what came out as it is."""
        if self._in_place:
            x = x.clone()
        if self._path is None:
            return self.chain(x)
        return run_to(self.chain, self._path[0], x, self._n_calls)[0]

    def _pick(self, output):
        while self._several and isinstance(output, (tuple, list)) and output:
            output = output[0]
        if not isinstance(output, torch.Tensor) and not self._link:
            raise ValueError(
                f"the network returns {type(output).__name__}, not one tensor; wrap it in a module "
                "whose forward returns the part that is meant."
            )
        return pick(output, () if self._path is None else self._path[1], self.layer or "")

    def _run(self, x):
        output = self._pick(self._forward(x))
        return output.to(numpy_dtype(output.dtype, self.output_dtype))

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

    def points(self, inputs, layers=None, at="output"):
        """Find layers whose activations the representation is built of.

        Parameters
        ----------
        inputs : ndarray of shape (n, *shape)
            What `inputs` returned; the first three samples are used.
        layers : list of str or None, default=None
            See `find_points`.
        at : {"output", "input"}, default="output"
            See `find_points`.

        Returns
        -------
        points : Points
        """
        modules = {name: module for name, (module, _) in layer_table(self.chain).items()}
        with self.session():
            x = self.tensor(inputs[:3]).clone()
            return find_points(self, x, modules, layers=layers, at=at)

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
        if ndim != 3:
            return None
        for module in self.chain.modules():
            if isinstance(module, CHANNELS_FIRST):
                return 0
            if isinstance(module, CHANNELS_LAST):
                return 1
        return None

    def session(self):
        """Context in which the network is run: eval mode, no parameter gradients; all restored."""
        return frozen([*torch_modules(self.estimator), self.chain], self.device, self.seed)


def _as_numbers(X):
    """X without column names, as numbers."""
    if not hasattr(X, "columns") and X.dtype.kind in "biuf":
        return X
    check_columns_numeric(X)
    try:
        return np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"X holds values that are no numbers ({error}); encode them in a Pipeline around the "
            "estimator (OneHotEncoder, OrdinalEncoder)."
        ) from None
