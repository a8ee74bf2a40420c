"""Facts about a network that six passes over three samples establish, once and for all.

Explainers rely on things that a network does not declare: that a sample's output depends on no
other sample, which axis of the output follows the samples, whether gradients pass, whether it draws
random numbers. `Prober` finds them out by running the network while the `Representation` is made:

* twice with gradients and every call of a module recorded, on three samples and on two of them.
  What differs between the two is the axis of the samples and the memory that one of them takes;
  the graph shows whether the output depends on the input and through which steps.
* once more without gradients on the same three: a different result means that the network draws.
* each of the three alone: a different result means that samples influence one another (BatchNorm
  without running statistics, a mean over the batch), and is refused.

The facts are frozen in a `Probe`, which is saved with a fitted explainer; nothing is tried again
when the explainer is loaded.
"""

import re
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.exceptions import NotFittedError
from torch.utils._python_dispatch import TorchDispatchMode

from ..exceptions import RandomModelWarning
from ..layers import N_TRIED, ancestors, batch_axis, check_order, depends, moves_rows, record
from ..utils import eps_of_products, n_shape, spread_places, too_large, warn
from ._finite import check_finite
from ._layout import input_layout
from ._modules import stages, subtracted_from
from ._offers import name_of
from ._own_forms import check_own_forms
from ._session import own_weights

# Relative difference of a black box's outputs that may be due to rounding.
_BOX_TOLERANCE = 1e-4
# Words of torch's errors about shapes.
_SHAPES = re.compile(
    r"mat1 and mat2|size of tensor|sizes of tensors|size mismatch|expected .* channels|"
    r"[Ee]xpected \d+D|[Ee]xpected .*dimension|expected input|input\.size|input must have|"
    r"[Gg]iven (groups|normalized_shape|input size)|shape '.*' is invalid|[Dd]imension|"
    r"values to unpack|must match|expanded size|padded input size|[Kk]ernel size|"
    r"should contain \d+ elements|broadcast|shape|index out of range",
)
# Names of torch's operations; fake quantisation, for training, passes gradients on.
# Errors of exported networks about the size of their batch.
_FIXED_SIZE = re.compile(r"size\(\)\[0\] == (\d+)|shape\[0\] to be equal to (\d+)")
_QUANTISED = re.compile(r"^quantized|^(?!.*fake).*quantize|choose_qparams|int8")
_DYNAMIC = re.compile(r"_dynamic|quantized_(lstm|gru|rnn)|choose_qparams|fbgemm_linear_int8")
# Operations that give Python a number, or the truth of one.
_TO_PYTHON = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default}
# A run for one sample and one for several are rounded differently: by so many of these.
_ROUNDINGS, _FEW_ROUNDINGS = 100, 8


@dataclass(frozen=True)
class Probe:
    """Facts about a representation that every later pass relies on.

    Attributes
    ----------
    n_units : int
        Number of entries of a sample's representation.
    batch_axis : int
        The output's axis that follows the samples.
    n_calls : int
        How often the layer is called in one pass; the last call counts.
    method : str or None
        The method of the layer's network that calls it.
    takes_integers : bool
        Whether the network takes integers only.
    bytes_per_row : int
        Memory that one sample takes until the backward pass.
    input_bytes : int
        Memory of one sample as it enters.
    no_torch_form : str or None
        The step through which no gradient passes, None if there is no such step.
    writes_weights : bool
        Whether a pass changes its weights (a norm that is clipped in ``forward``, for example); it
        is run on copies of them then.
    draws : bool
        Whether the network draws from torch's global generator.
    quantised : bool
        Whether it computes with quantised numbers, through which no gradient passes.
    one_by_one : bool
        Whether samples are run one at a time: dynamic quantisation rounds a sample by the range of
        its batch.
    random : bool
        Whether two runs on the same samples differ.
    branches : bool
        Whether numbers decide in Python what the network does, which may be other things for other
        samples: it may call the layer more often, for example.
    moves_rows : bool
        Whether it picks samples by number or puts some behind others, so that the rows of a layer
        may be in another order.
    channel_axis : int or None
        Axis of a sample's array that holds channels, as the first layers take it.
    is_series : bool
        Whether samples with one axis go through layers for series.
    black_box : str or None
        The step for whose sake the estimator is run as a whole, None if it has a torch path.
    head_zeros : tuple of float or None
        What a head makes of zeros in raw units.
    offered : str or None
        The estimator's method, where others that come first failed on trial.
    """

    n_units: int = 0
    batch_axis: int = 0
    n_calls: int = 1
    method: str | None = None
    takes_integers: bool = False
    bytes_per_row: int = 1
    input_bytes: int = 0
    no_torch_form: str | None = None
    writes_weights: bool = False
    draws: bool = False
    quantised: bool = False
    one_by_one: bool = False
    random: bool = False
    branches: bool = False
    moves_rows: bool = False
    channel_axis: int | None = None
    is_series: bool = False
    black_box: str | None = None
    head_zeros: tuple | None = None
    offered: str | None = None

    def ends_after(self, n_calls):
        """Say after how many calls of a layer a pass to it ends: None if at the network's end.

        Parameters
        ----------
        n_calls : int
            How often it was called when it was tried.

        Returns
        -------
        n_calls : int or None
            None where other samples may have it called more often.
        """
        return None if self.branches else n_calls


def is_misfit(error):
    """Whether a network's error is about shapes, judging by its type and words."""
    if str(error).startswith("Guard failed"):  # of an exported network
        return True
    known = isinstance(error, (RuntimeError, ValueError, IndexError))
    return (
        known and not isinstance(error, torch.OutOfMemoryError) and bool(_SHAPES.search(str(error)))
    )


def misfit(inputs, error):
    """Build the error for X whose shape the network does not take."""
    return ValueError(
        f"the network could not run on X of shape {n_shape(inputs.shape[1:])}: {error}. "
        "X must have the shape the network takes; axes are never swapped."
    )


def fixed_size(error):
    """Build the error for a network that takes batches of one size only; None if it is not that."""
    found = _FIXED_SIZE.search(str(error))
    if found is None:
        return None
    size = found[1] or found[2]
    return ValueError(
        f"the network runs on batches of {size} samples only: torch.export fixed that size. Export "
        "it with a batch axis of any size, torch.export.export(network, (x,), "
        "dynamic_shapes=({0: torch.export.Dim('n')},)), or pass the Python module."
    )


def add_note(error, inputs_shape, what="the network"):
    """Add to an error of the user's code what was being run, unless it says so already."""
    if not any(note.startswith("raised while running") for note in getattr(error, "__notes__", ())):
        error.add_note(
            f"raised while running {what} on {inputs_shape[0]} samples of shape "
            f"{n_shape(inputs_shape[1:])}"
        )


class _Operations(TorchDispatchMode):
    """Notes what operations there are; in this thread only.

    Attributes
    ----------
    draws : bool
        Whether an operation draws random numbers.
    quantised : bool
        Whether one computes with quantised numbers, which have no gradient.
    dynamic : bool
        Whether one quantises by the range of its batch.
    branches : bool
        Whether one hands a number to Python.
    moves_rows : bool
        Whether one may move rows, see `moves_rows`.
    """

    def __init__(self):
        super().__init__()
        self.draws = self.quantised = self.dynamic = False
        self.branches = self.moves_rows = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.draws = self.draws or torch.Tag.nondeterministic_seeded in getattr(func, "tags", ())
        name = str(func)
        self.quantised = self.quantised or bool(_QUANTISED.search(name))
        self.dynamic = self.dynamic or bool(_DYNAMIC.search(name))
        self.branches = self.branches or func in _TO_PYTHON
        self.moves_rows = self.moves_rows or moves_rows(func, args)
        return func(*args, **(kwargs or {}))


def _clips(chain):
    """Tell whether a lookup clips the norms of those weights that it is asked for."""
    return any(getattr(module, "max_norm", None) is not None for module in chain.modules())


class Prober:
    """Runs a representation on a few samples, and records the facts.

    1. Three samples, with gradients and all modules recorded: shapes, calls, axes, what the output
       depends on, the memory for a backward pass.
    2. Two of them likewise: the axis of the samples, and the memory of one.
    3. The three again, without gradients: is the output the same, is anything drawn at random?
    4. to 6. Each of the three alone: does its output depend on the others?
    7. and 8. A few more, in both orders: are the output's rows theirs?

    A network that fails on floating numbers is tried on integers. Of a black box, the first two are
    run, and the first sample alone.

    Parameters
    ----------
    representation : Representation
        Under construction; its ``probe`` is replaced as facts become known.
    inputs : ndarray of shape (n, ...)
        Samples as they enter the torch path; some from all over are run.

    Attributes
    ----------
    recordings : list of Recording
        Of two and of three samples, up to the representation.
    chain : nn.Module
        Whose modules were recorded: those of one session.
    """

    def __init__(self, representation, inputs):
        self._representation = representation
        self._rows = inputs[np.resize(spread_places(len(inputs), 3), 3)]
        self._more = inputs[spread_places(len(inputs), N_TRIED)]
        self._n_samples = min(3, len(inputs))
        self.recordings, self.chain, self._state = [], None, None

    def run(self):
        """Make all passes; the representation's ``probe`` is complete afterwards."""
        representation = self._representation
        self._state = torch.get_rng_state()
        with representation.session(), torch.no_grad():
            # On copies of the weights, lest a network that writes into its own writes into these.
            viewed = representation.viewed
            try:
                with own_weights(representation.chain) if viewed else nullcontext() as changed:
                    three = self._recorded_first()
                    if viewed and (_clips(representation.chain) or changed()):
                        self._learn(writes_weights=True)
                    self._learn_the_rest(three)
            except Exception as error:
                fixed = fixed_size(error)
                if fixed is None:
                    raise
                raise fixed from error
            finally:
                if representation.probe.draws:
                    torch.set_rng_state(self._state)

    def _learn_the_rest(self, three):
        """Learn everything but what the first pass had to show."""
        representation = self._representation
        two = self._recorded_second()
        self.recordings, self.chain = [two, three], representation.chain
        check_own_forms(self.chain, three)
        with torch.enable_grad():
            outputs = [representation.picked(r.output) for r in self.recordings]
        what = "the network" if representation.layer is None else f"layer {representation.layer!r}"
        axis = batch_axis(*(tuple(output.shape) for output in outputs), what)
        if outputs[0].numel() == 0:
            method = representation.method
            name = f"{method} of {name_of(representation.estimator)}"
            raise ValueError(
                f"{what if method in (None, 'forward') else name} returns no numbers "
                f"{tuple(outputs[1].shape)} for three samples, so there is nothing to explain."
            )
        self._learn(
            n_units=outputs[0].numel() // 2,
            batch_axis=axis,
            bytes_per_row=max(1, three.n_bytes - two.n_bytes),
            input_bytes=three.x[:1].nbytes,
            no_torch_form=self._no_torch_form(three, outputs[1]),
            **self._layout(three),
        )
        for recording, output in zip(self.recordings, outputs, strict=True):
            with torch.enable_grad():
                recording.output = output.movedim(axis, 0).reshape(output.shape[axis], -1)
        entered = three.leaf.to(representation.entry_dtype)
        if np.isfinite(self._rows).all() and not torch.isfinite(entered).all():
            raise ValueError(too_large(self._rows, representation.entry_dtype))
        check_finite(self._flat(outputs[1])[: self._n_samples])
        if representation.is_black_box:
            self._check_box(self._flat(outputs[1]))
        else:
            self._check_function(self._flat(outputs[1]))

    def _learn(self, **facts):
        self._representation.probe = replace(self._representation.probe, **facts)

    def _flat(self, output, n=3):
        # The output for one sample may have no axis of samples.
        return output.detach().movedim(self._representation.probe.batch_axis, 0).reshape(n, -1)

    # -- the passes with gradients -------------------------------------------------------------

    def _recorded_first(self):
        """Record three samples: as numbers, and where the network fails on them, as integers."""
        representation = self._representation
        try:
            return self._recorded(self._rows)
        except NotFittedError:
            raise
        except Exception as error:
            if representation.is_black_box:
                raise
            if representation.takes_integers or not representation.enters_network:
                self._explain(error)
                raise
            return self._recorded_as_integers(error)

    def _recorded_as_integers(self, error):
        self._learn(takes_integers=True)
        are_integers = self._rows.dtype.kind in "iu"
        try:
            recording = self._recorded(self._rows)
        except Exception as second:
            self._learn(takes_integers=False)
            if are_integers and is_misfit(second):
                raise misfit(self._rows, f"{error}; as integers: {second}") from error
            self._explain(error)
            raise error from None
        if not are_integers:
            raise TypeError(
                f"the network takes integers (token numbers, for example) but X has dtype "
                f"{self._rows.dtype}; pass X.astype('int64')."
            ) from error
        return recording

    def _recorded_second(self):
        """Record two samples; a network that runs on three has no reason not to."""
        try:
            return self._recorded(self._rows[:2])
        except Exception as error:
            if self._representation.is_black_box or fixed_size(error) is not None:
                raise
            raise ValueError(
                f"the network runs on three samples but not on two ({error}), so its batch size is "
                "fixed (by a view or a trace, for example). Have it take any number of samples."
            ) from error

    def _explain(self, error):
        """Raise a clearer error if shapes are at fault, else add what was being run."""
        if is_misfit(error):
            raise misfit(self._rows, error) from error
        add_note(error, self._rows.shape)

    def _recorded(self, rows):
        """Record a pass as far as the representation; raise if its layer is never called."""
        representation = self._representation
        recording = record(
            representation.run_to_stage, representation.tensor(rows), representation.chain.modules()
        )
        if representation.layer is None:
            return recording
        calls = recording.of(representation.layer_module)
        if not calls and representation.probe.method not in (None, "forward"):
            self._learn(method="forward")  # a decoder's layer is past the encoder
            return self._recorded(rows)
        calls = [call for call in calls if call.ended is not None]
        if not calls:
            raise ValueError(
                f"{representation.parameter}={representation.layer!r} is never called when the "
                "network runs on this input, so it has no activations; name a layer that is."
            )
        self._learn(n_calls=len(calls))
        return recording.until(calls[-1])

    def _no_torch_form(self, recording, output):
        representation = self._representation
        if representation.takes_integers:
            return None
        for box in representation.boxes:
            if any(call.ended is not None for call in recording.of(box)):
                return box.reason
        if depends(ancestors(output), recording.leaf):
            return None
        name = type(representation.estimator).__name__
        name = name if representation.layer is None else f"layer {representation.layer!r}"
        return f"{name}, whose output is detached from its input,"

    def _layout(self, recording):
        axis, is_series = input_layout(recording, self._rows.shape[1:])
        return {"channel_axis": axis, "is_series": is_series}

    # -- the passes without gradients ----------------------------------------------------------

    def _check_function(self, z):
        """Warn if the network draws at random, raise if samples influence one another."""
        representation, rows = self._representation, self._rows
        tolerance = _tolerance(z, representation, rows)
        state = torch.get_rng_state()
        operations = _Operations()
        with operations:
            again = representation.run(representation.tensor(rows))
        moved = operations.draws and not torch.equal(state, torch.get_rng_state())
        again = self._flat(again)
        random = not _close(again, z, tolerance)
        self._learn(draws=moved, random=random, quantised=operations.quantised)
        self._learn(one_by_one=operations.dynamic and not random)
        self._learn(branches=operations.branches, moves_rows=operations.moves_rows)
        if operations.quantised and representation.no_torch_form is None:
            # A path past the quantised layers has a gradient, but not that of the whole.
            name = type(representation.estimator).__name__
            self._learn(no_torch_form=f"{name}, which computes with quantised numbers,")
        if random:
            warn(
                "the network draws random numbers or changes its own state when it is run: two "
                f"runs on the same samples differ by {_difference(again, z):.2g}, so what is "
                "explained is one draw and no function of the sample. Have the network draw "
                "nothing in eval mode (dropout that stays on), or name a layer before the draw "
                f"({representation.parameter}='...', "
                "the mean of a variational autoencoder, for example).",
                RandomModelWarning,
            )
            return
        if operations.dynamic:
            again = self._flat(representation.run(representation.tensor(rows)))
        if stages(representation.chain):  # our own steps take rows one by one, but round in batches
            self._check_alone(again, tolerance)
            self._check_order()

    def _check_order(self):
        """Raise unless the output's rows are those of the samples, of more of them than three."""
        representation = self._representation
        x = representation.tensor(self._more)
        rows = [representation.rows_of(representation.run(x), len(x)) for x in (x, x.flip(0))]
        check_order(*rows, representation.what)

    def _check_box(self, together):
        """Run one sample alone through a black box: some compare the samples of a batch."""
        representation = self._representation
        try:
            alone = representation.run(representation.tensor(self._rows[:1]))
        except Exception:  # it takes no single sample; who gives it one will see
            return
        alone, scale = self._flat(alone, 1), together.abs().amax().item()
        if not _close(alone, together[:1], _BOX_TOLERANCE * scale):
            box, difference = representation.chain, _difference(alone, together[:1])
            warn(
                f"{box.method} of {name_of(box.estimator)} gives sample 0 another output "
                f"alone than beside two others, by {difference:.2g}: it draws at random or "
                "compares the samples of a batch, so what is explained is no function of one "
                "sample, and explanations change with the batch. Explain an estimator whose output "
                "for a sample depends on that sample only.",
                RandomModelWarning,
            )

    def _check_alone(self, together, tolerance):
        representation = self._representation
        for i in range(self._n_samples):
            try:
                alone = representation.run(representation.tensor(self._rows[i : i + 1]))
                alone = self._flat(alone, 1)
            except Exception as error:
                raise ValueError(
                    f"the network runs on three samples but not on sample {i} alone ({error}), so "
                    "its output is no function of one sample. Have it keep the axis of samples "
                    "(squeeze() drops it), use the statistics of training in BatchNorm "
                    f"(track_running_stats=True), or name a layer before that "
                    f"({representation.parameter}='...')."
                ) from error
            if not _close(alone, together[i : i + 1], tolerance):
                raise ValueError(
                    f"the network's output for sample {i} depends on the other samples of its "
                    f"batch: alone it differs by {_difference(alone, together[i : i + 1]):.2g}, so "
                    "it is no function of one sample. BatchNorm without running statistics and "
                    "means over the batch do that: use track_running_stats=True, or name a layer "
                    f"before it ({representation.parameter}='...')."
                )


def _tolerance(z, representation, rows):
    """Largest difference that rounding can make in a network with so many layers."""
    dtype = z.dtype if z.is_floating_point() else torch.float32
    # What runs inside a black box is unknown.
    least = torch.finfo(torch.float32).eps if representation.boxes else 0.0
    if representation.eps == torch.finfo(torch.float32).eps:
        least = eps_of_products(representation.device)
    eps = max(torch.finfo(dtype).eps, representation.eps, least)
    n = _ROUNDINGS if eps <= torch.finfo(torch.float32).eps else _FEW_ROUNDINGS
    depth = max(1, len(list(representation.chain.modules())))
    scale = z.abs().amax().item() if z.numel() else 0.0
    minuend = subtracted_from(representation.chain, representation.tensor(rows))
    if minuend is not None:
        scale = max(scale, minuend.abs().amax().item())
    return n * eps * depth**0.5 * scale


def _difference(a, b):
    return (a.double() - b.double()).abs().max().item() if a.shape == b.shape else float("nan")


def _close(a, b, tolerance):
    return a.shape == b.shape and (a.numel() == 0 or _difference(a, b) <= tolerance)
