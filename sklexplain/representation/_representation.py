"""A representation: an estimator, or a part of it, as one function of tensors."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

from ..layers import (
    N_TRIED,
    check_order,
    check_rows,
    find_points,
    first_tensor,
    hidden_layers,
    known_layer,
    parse_path,
    pick,
    record,
    run_to,
    tensor_paths,
    tried_points,
)
from ..utils import Written, spread_places
from ._blocks import Blocks
from ._columns import NoTorchForm, check_columns_of, zeros_of
from ._convert import Identity
from ._detectors import called_abnormal
from ._devices import moved
from ._finite import check_finite, not_finite_row
from ._heads import as_tensor, numpy_dtype
from ._inputs import RawInputs
from ._modules import BlackBox, Stage, columns_read, first_step, layer_table, stages, without_link
from ._probe import Probe, Prober, add_note, misfit
from ._resolve import Asked, Parts, black_box, decompose, torch_modules, unwrap
from ._runner import Runner
from ._session import frozen
from ._table import Table
from ._views import fingerprint

# A copy of fewer bytes to a GPU is done before pinning them would be.
_PINNED_FROM = 2**20


class Representation(RawInputs, Blocks):
    """The function that an estimator or one of its layers computes: x in R^d to z in R^N.

    Complete once it is constructed; nothing about it changes later. What is run is never the
    estimator's network but a view of it (see `session`), so the estimator stays as it is, whoever
    uses it meanwhile.

    Parameters
    ----------
    estimator : nn.Module or fitted estimator
        What is explained; never changed.
    n_columns : int
        Size of axis 1 of X.
    X : ndarray or DataFrame or None, default=None
        Validated samples in raw units, of which a few are run; see `Prober`.
    inputs : ndarray or None, default=None
        Instead of X: samples at the entry of the torch path.
    probe : Probe or None, default=None
        Instead of both: what was learnt before, of the same estimator.
    layer : str or None, default=None
        Submodule whose output is the representation, as in ``named_modules()``, with ``[i]`` for
        an item of a tuple and ``['key']`` for one of a dict. None: what ``response_method`` says;
        a module's ``forward``.
    response_method : str or list of str, default="auto"
        The estimator's method, see `offered_method`.
    link : bool, default=True
        Whether probabilities are made of a classifier's scores where the method is found
        (``"auto"``); False: a skorch net is what its module returns, and scikit-learn's
        classifiers that have probabilities give the scores before them (logits).
    device : str, torch.device or None, default=None
        Where the network runs. None: where it is. Another device gets a copy of the network.
    seed : int, default=0
        Seed of the torch generator for networks that draw random numbers even in eval mode.
    parameter : str, default="layer"
        Name of ``layer`` in error messages.
    several : bool, default=False
        Whether the network may return several tensors, of which the first is used.
    table : Table or None, default=None
        How the raw samples looked, where ``inputs`` or ``probe`` are given and the path begins
        with a black box.
    fallback : bool, default=False
        Whether ``response_method`` was found by trial, which the probe remembers.
    second : bool, default=False
        Whether gradients are differentiated, or vectorised, which cuDNN's recurrent layers cannot.

    Attributes
    ----------
    probe : Probe
        Facts about the network, found by running it.
    method : str or None
        The method of the estimator that is explained, ``"forward"`` of a module; None where a
        layer is.
    head : Head or None
        Preprocessing run as it is, before the torch path.
    table : Table or None
        Where the path begins with a black box: raw samples as numbers, and back.
    input_dtype, output_dtype : torch.dtype
        Of the tensors at the torch path's entry, and of explanations.
    entry_dtype : torch.dtype
        Of the network that takes the inputs: float16, for example, where `input_dtype` is float32.
    eps : float
        Relative rounding error of the least precise numbers that take part.
    device : torch.device
        Where the network runs.
    viewed : bool
        Whether views are run. False: the network itself, in eval mode and under a lock.
    obstacles : list of str
        Why views cannot be run; empty if they can.

    Raises
    ------
    ValueError
        If the layer does not exist, or is asked for where there is no torch path; if the network
        cannot run on X, its output does not follow the samples one by one, or is not finite.
    TypeError
        If the network takes integers and was given other numbers, or the estimator returns labels;
        if the network runs without calling its layers and one of them is asked for.
    """

    @torch.inference_mode(False)  # else the buffers made here would take part in no gradient
    def __init__(
        self,
        estimator,
        n_columns,
        *,
        X=None,
        inputs=None,
        probe=None,
        layer=None,
        response_method="auto",
        link=True,
        device=None,
        seed=0,
        parameter="layer",
        several=False,
        table=None,
        fallback=False,
        second=False,
    ):
        self.estimator = unwrap(estimator)
        self.layer = layer
        self.parameter = parameter
        self.seed = seed
        self._several, self._link = several, link
        if probe is not None and probe.offered is not None:
            response_method = probe.offered
        asked = Asked.of(self.estimator, response_method, layer, link)
        self.method = None if layer is not None else asked.method
        parts, facts = self._parts(n_columns, asked, X if probe is None else None, probe)
        self.head, self._chain = parts.head, parts.module
        self._chain, self.device = moved(self._chain, device, loaded=probe is not None)
        self._entry = first_step(self._chain)
        self.table = None
        if isinstance(self._entry, BlackBox) and self.head is None:
            self.table = Table(X) if table is None and X is not None else table
            self._entry.table = self.table
        self._read = columns_read(self._chain, n_columns)
        self._networks = list(torch_modules(self.estimator))
        self._find_layer()
        self._set_dtypes()
        self._runner = Runner(self._chain, self._networks, self.device, second)
        self.probe, self.recordings, self._recorded_chain = probe, None, None
        if probe is None:
            method = None if self._stage is None else self._stage.method
            self.probe = Probe(method=method, offered=self.method if fallback else None, **facts)
            inputs = self.inputs(_some_rows(X)) if inputs is None else inputs
            if inputs.ndim > 2 and not isinstance(self._entry, (Stage, BlackBox, Identity)):
                raise misfit(inputs, "scikit-learn's steps take two dimensions")
            prober = Prober(self, inputs)
            prober.run()
            self.recordings = prober.recordings
            self._recorded_chain = prober.chain

    # -- construction --------------------------------------------------------------------------

    def _parts(self, n_columns, asked, X, probe):
        """Take the estimator apart, and try its head out on X; also the facts about that."""
        facts = {}
        try:
            if probe is not None and probe.black_box is not None:
                raise NoTorchForm(probe.black_box)
            parts = decompose(self.estimator, n_columns, asked)
            if parts.head is not None and X is not None:
                facts = _facts_of(*parts.head.on_raw_columns(X))
        except NoTorchForm as error:
            reason = str(error)
            return Parts(None, black_box(self.estimator, reason, asked)), {"black_box": reason}
        module = parts.module if asked.link else without_link(parts.module)
        return Parts(parts.head, module), facts

    def _find_layer(self):
        self._path, self._stage_name = None, None
        if self.layer is None:
            return
        if self.is_black_box:
            raise ValueError(
                f"{self.parameter}={self.layer!r} needs a network; {self._chain.reason} has no "
                f"torch form. Use {self.parameter}=None to explain what the estimator returns."
            )
        if not isinstance(self.layer, str):
            raise TypeError(f"{self.parameter}={self.layer!r} must be a string or None.")
        name, items = parse_path(self.layer)
        modules = {name: module for name, (module, _) in layer_table(self._chain).items()}
        self._path = (known_layer(name, modules, self.parameter), items)

    def _set_dtypes(self):
        # Networks of half precision, bfloat16 too, receive and give float32.
        networks = stages(self._chain)
        dtypes = [numpy_dtype(stage.dtype) for stage in networks]
        self._float_dtype = dtypes[0] if self.enters_network else torch.float64
        own = networks[0].dtype if self.enters_network else None
        self._entry_dtype = self._float_dtype if own is None else own
        self.output_dtype = dtypes[-1] if dtypes else torch.float64
        tensors = (*self._chain.parameters(), *self._chain.buffers())
        dtypes = {t.dtype for t in tensors if t.is_floating_point()} | {self.output_dtype}
        self.eps = max(torch.finfo(dtype).eps for dtype in dtypes)

    def forget_recordings(self):
        """Drop the recordings of the probing passes, once nobody needs them."""
        self.recordings = self._recorded_chain = None

    def recordings_of(self, inputs):
        """Return recorded passes of two and of three samples, with the modules that run now.

        Parameters
        ----------
        inputs : ndarray of shape (n, *shape)
            What `inputs` returned; run only where nothing was recorded with these modules.

        Returns
        -------
        recordings : list of Recording
        """
        if self.recordings is not None and self.chain is self._recorded_chain:
            return self.recordings
        places = spread_places(len(inputs), 3)
        rows = [self.tensor(inputs[np.resize(places, n)]) for n in (2, 3)]
        recordings = [record(self.run_to_stage, x, self.chain.modules()) for x in rows]
        if self._path is not None:
            recordings = [r.until(r.of(self.layer_module)[-1]) for r in recordings]
        for recording in recordings:
            with torch.enable_grad():
                output = self.picked(recording.output).movedim(self.probe.batch_axis, 0)
                recording.output = output.reshape(len(output), -1)
        return recordings

    @property
    def layers(self):
        """The session's modules by name, as in `layer_table`."""
        return {name: module for name, (module, _) in self._runner.in_session().table.items()}

    # -- what it is ----------------------------------------------------------------------------

    @property
    def viewed(self):
        """Whether views of the networks are run."""
        return not self.obstacles

    @property
    def obstacles(self):
        """Reasons why the networks themselves are run, where they are."""
        return self._runner.obstacles

    @property
    def is_black_box(self):
        """Whether there is no torch path at all."""
        return isinstance(self._chain, BlackBox)

    def typical(self, inputs):
        """Return the mean sample of a raw table, as far as there is one; see `Table.typical`.

        Parameters
        ----------
        inputs : ndarray of shape (n, *shape)
            What `inputs` returned.

        Returns
        -------
        typical : ndarray of shape (*shape)
        """
        typical = self.table.typical(inputs)
        try:
            with self.session(), torch.no_grad():
                self.run(self.tensor(typical[None]))
        except Exception:
            # Integers may be categories, and their mean none of them.
            return self.table.typical(inputs, rounded=True)
        return typical

    @property
    def enters_network(self):
        """Whether inputs go into a network as they are."""
        return isinstance(self._entry, Stage)

    @property
    def what(self):
        """The representation in words, for messages."""
        return "the network's output" if self.layer is None else f"layer {self.layer!r}"

    @property
    def hidden(self):
        """Why layers cannot be looked at, as of TorchScript; None if they can."""
        return hidden_layers(self._chain.modules())

    @property
    def n_units(self):
        """Number of entries of a sample's representation, N."""
        return self.probe.n_units

    @property
    def no_torch_form(self):
        """The step that no gradient passes, None if all let it."""
        return self.probe.no_torch_form

    @property
    def differentiable(self):
        """Whether gradients pass from the input to the representation."""
        return self.no_torch_form is None and not self.takes_integers

    @property
    def takes_integers(self):
        """Whether the network takes integers, token numbers for example."""
        return self.probe.takes_integers or not self._float_dtype.is_floating_point

    @property
    def input_dtype(self):
        """Dtype of the tensors at the torch path's entry."""
        return torch.int64 if self.probe.takes_integers else self._float_dtype

    @property
    def entry_dtype(self):
        """Dtype in which the network that takes the inputs computes."""
        return torch.int64 if self.probe.takes_integers else self._entry_dtype

    def fingerprint(self):
        """Checksum of all weights of the estimator's networks, as they are now."""
        # Asked for anew: a skorch net that is fitted again has another module.
        return fingerprint(list(torch_modules(self.estimator))) if self._networks else 0

    # -- sessions ------------------------------------------------------------------------------

    @contextmanager
    def session(self):
        """Context in which the network is run.

        A view of it is taken out of a pool, in eval mode and without gradients of weights: every
        call that runs has its own, so no lock is held. A call that fails does not put its view
        back. Where the network cannot be viewed, it runs itself, one call at a time, and is put
        back into the state it was in.

        Yields
        ------
        None

        Notes
        -----
        Modules of a session are not those of another: keep names, and ask `module` for them.
        """
        with self._runner.session(self.probe, self.seed) as begun:
            if begun:
                self.apply_facts()
            yield

    def apply_facts(self):
        """Have the session's networks run as `probe` says: on integers, by which method."""
        if self.probe is None or (self.probe.method is None and not self.takes_integers):
            return
        running = self._runner.in_session()
        for stage in stages(running.chain):
            stage.takes_integers = self.takes_integers
        if self.probe.method is not None:
            running.table[self._path[0]][1].method = self.probe.method

    @property
    def chain(self):
        """The torch path: that of the session, and outside of one that of the estimator itself."""
        running = self._runner.running
        return self._chain if running is None else running.chain

    def module(self, name):
        """Return the session's module of a name, as in `layer_table`.

        Parameters
        ----------
        name : str
            Without items.

        Returns
        -------
        module : nn.Module
        """
        return self._runner.in_session().table[name][0]

    def bound(self, points):
        """Return points with the session's modules.

        Parameters
        ----------
        points : Points
            Without modules, as `points` returns them.

        Returns
        -------
        points : Points
        """
        running = self._runner.in_session()
        entry = running.bound.get(id(points))  # the points themselves, too, as ids are used again
        if entry is None or entry[0] is not points:
            parts = [replace(p, module=self.module(parse_path(p.name)[0])) for p in points]
            entry = running.bound[id(points)] = points, replace(points, points=tuple(parts))
        return entry[1]

    # -- running -------------------------------------------------------------------------------

    def tensor(self, inputs):
        """Tensor of inputs in the torch path's dtype, on its device."""
        x = inputs if isinstance(inputs, torch.Tensor) else as_tensor(np.asarray(inputs))
        if self.device.type != "cuda" or x.nbytes < _PINNED_FROM:
            return x.to(self.device, self.input_dtype)
        return x.to(self.input_dtype).pin_memory().to(self.device, non_blocking=True)

    def _forward(self, x):
        """Run as far as needed; return the layer's output as it is."""
        x = x.clone()  # the network may write into it, for some samples only
        chain = self.chain
        if self._path is None:
            return chain(x)
        return run_to(chain, self.layer_module, x, self.probe.ends_after(self.probe.n_calls))[0]

    @property
    def layer_module(self):
        """The session's module whose output is the representation."""
        return self.module(self._path[0])

    @property
    def _stage(self):
        """The network that the layer belongs to, None where it is a step of ours."""
        if self._path is None:
            return None
        running = self._runner.running
        table = layer_table(self._chain) if running is None else running.table
        return table[self._path[0]][1]

    @property
    def boxes(self):
        """The black boxes of the torch path."""
        return [m for m in self.chain.modules() if isinstance(m, BlackBox)]

    def run_to_stage(self, x):
        """Run to the end of the network that the layer belongs to; all of it without a layer."""
        self.apply_facts()
        stage = self._stage
        if stage is None:
            return self.chain(x)
        return run_to(self.chain, stage, x)[0]

    def picked(self, output):
        """Take the one tensor that is the representation, in a dtype that numpy has.

        Parameters
        ----------
        output : object
            What the network or the layer returned.

        Returns
        -------
        output : torch.Tensor

        Raises
        ------
        ValueError
            If it is not one tensor.
        TypeError
            If it holds complex numbers.
        """
        if self._several:
            output = first_tensor(output)
        if not isinstance(output, torch.Tensor) and not self._link:
            raise ValueError(_not_one_tensor(output))
        items = () if self._path is None else self._path[1]
        output = pick(output, items, self.layer or "", self.parameter)
        if output.is_complex():
            raise TypeError("the network returns complex numbers; have it return real ones.")
        return output.to(numpy_dtype(output.dtype, self.output_dtype))

    def run(self, x):
        """Run a batch, unchecked, with the axes that the network gives."""
        parts = [self.picked(self._forward(rows)) for rows in self.run_at_once(x)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=self.probe.batch_axis)

    def run_at_once(self, x):
        """Split a batch into those that may be run together: all, unless each row is run alone.

        Parameters
        ----------
        x : torch.Tensor of shape (b, ...)

        Returns
        -------
        batches : sequence of torch.Tensor
        """
        return x.split(1) if self.probe.one_by_one and len(x) > 1 else (x,)

    def __call__(self, x):
        """Representation of a batch: (b, *shape) to (b, N), differentiable where it can be."""
        try:
            output = self.run(x)
        except Exception as error:
            add_note(error, tuple(x.shape))
            raise
        z = self.rows_of(output, len(x))
        check_finite(z)
        if self.layer is not None:
            self.check_row_order(lambda x: self.rows_of(self.run(x), len(x)), x, z, self.what)
        return z

    def check_row_order(self, run, x, rows, what):
        """Raise if a layer's rows are in another order than samples; see `check_order`.

        Parameters
        ----------
        run : callable
            From samples to the layer's rows.
        x : torch.Tensor of shape (b, ...)
            Samples.
        rows : torch.Tensor of shape (b, ...)
            Those of x.
        what : str
            The layer, for the error message.
        """
        if self.probe.moves_rows and not self.probe.random and len(x) > 1:
            with torch.no_grad():
                check_order(rows.detach(), run(x.detach().flip(0)), what)

    def rows_of(self, output, n_samples):
        """Arrange what was picked from a pass as (n_samples, N); raise if it has other rows."""
        check_rows(output, self.probe.batch_axis, n_samples, self.n_units, self.what)
        return output.movedim(self.probe.batch_axis, 0).reshape(n_samples, -1)

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

        def run(rows):
            return self(self.tensor(inputs[rows])).to(self.output_dtype).cpu().numpy()

        with self.session(), torch.no_grad():
            blocks = self.in_blocks(run, len(inputs), batch_size, lambda: batch_size)
            written = Written(len(inputs))
            for _, z in blocks:
                written.add(z)
        return written.array

    def called_abnormal(self, X):
        """Ask a detector itself which samples it calls abnormal.

        Parameters
        ----------
        X : ndarray or DataFrame
            Validated samples in raw units.

        Returns
        -------
        abnormal : ndarray of bool or None
            None if it does not say.
        """
        with frozen(self._networks):
            return called_abnormal(self.estimator, self._copied(X))

    def takes(self, inputs):
        """Try whether samples, with gaps perhaps, give finite outputs.

        Parameters
        ----------
        inputs : ndarray of shape (n, *shape)
            What `inputs` returned; all are run at once.

        Returns
        -------
        takes : bool
        """
        try:
            with self.session(), torch.no_grad():
                return bool(torch.isfinite(self.run(self.tensor(inputs))).all())
        except Exception:  # of whatever the network is made of
            return False

    def not_finite_sample(self, inputs, batch_size):
        """Find the first sample whose representation is not finite; None if all are.

        Parameters
        ----------
        inputs : ndarray of shape (n, *shape)
            What `inputs` returned.
        batch_size : int
            Most samples in the network at once.

        Returns
        -------
        position : int or None
        """
        with self.session(), torch.no_grad():
            for i in range(0, len(inputs), batch_size):
                x = self.tensor(inputs[i : i + batch_size])
                z = self.rows_of(self.run(x), len(x))
                position = not_finite_row(z)
                if position is not None:
                    return i + position
        return None

    def points(self, inputs, layers=None, at="output", parameter="layer"):
        """Find layers whose activations the representation is built of.

        Parameters
        ----------
        inputs : ndarray of shape (n, *shape)
            What `inputs` returned; a few are run.
        layers : list of str or None, default=None
            See `find_points`.
        at : {"output", "input"}, default="output"
            See `find_points`.
        parameter : str, default="layer"
            See `find_points`.

        Returns
        -------
        points : Points
            Without modules; see `bound`.
        """
        with self.session():
            x = self.tensor(inputs[spread_places(len(inputs), 3)])
            recordings = self.recordings_of(inputs)
            options = {"layers": layers, "at": at, "parameter": parameter}
            points = find_points(self, x, self.layers, recordings=recordings, **options)
            if not self.probe.one_by_one:  # else whole batches are never run
                n_tried = points.block_rows(N_TRIED, self.device)
                x = self.tensor(inputs[spread_places(len(inputs), n_tried)])
                points = tried_points(
                    self, points, x, ordered=not self.probe.random, lenient=layers is None
                )
        may_move = self.probe.moves_rows and not self.probe.random
        parts = tuple(replace(p, module=None) for p in points)
        return replace(points, points=parts, may_move=may_move)


def _not_one_tensor(output):
    """Words of the error where a layer may not be named instead of the output."""
    parts = ", ".join(tensor_paths(output, ""))
    parts = f" ({parts})" if parts else ""
    return (
        f"the network returns {type(output).__name__}, not one tensor{parts}; wrap it in a module "
        "whose forward returns the part that is meant."
    )


def _facts_of(head, X):
    """Try a head out on samples; what later passes need to know of it."""
    if head is None:
        return {}
    check_columns_of(head, X)
    return {"head_zeros": tuple(zeros_of(head, X).tolist())}


def _some_rows(X):
    """Take rows from all over, as those side by side may be alike, of one class for example."""
    return _safe_indexing(X, spread_places(_num_samples(X), N_TRIED))
