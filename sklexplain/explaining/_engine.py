"""The engine: from samples, baselines and functions of a representation to maps in features."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.utils import check_random_state

from ..utils import Written, in_blocks, known_range, numpy_dtype_of, progress
from ._baselines import own_baselines
from ._completeness import MAX_ERROR, beyond_sampling, completeness_errors, warn_incomplete
from ._methods import PERTURBATION_METHODS, RECORDS
from ._records import Setup
from ._spread import Estimates, Spread

# Samples that are tried again, with twice the steps, before a warning.
_N_TRIED_AGAIN = 8
# Twice the steps halve the error at a kink and leave that at a step as it is.
_HELPS = 0.8


@dataclass
class _Task:
    """The samples and functions of one call of `AttributionEngine.maps`."""

    representation: object
    encode: Callable
    inputs: np.ndarray
    index: np.ndarray | None
    cotangents: Callable
    own_baseline: Callable | np.ndarray | None
    slopes: np.ndarray | None
    block_rows: int
    what: str
    by_mass: bool = False
    references: torch.Tensor | None = None  # common to all samples: (1, K, ...)
    z_ref: torch.Tensor | None = None

    def __len__(self):
        return len(self.inputs if self.index is None else self.index)

    def batch(self, rows, of=None):
        """Take samples at some positions, or what belongs ``of`` each of them."""
        return (self.inputs if of is None else of)[rows if self.index is None else self.index[rows]]

    def baselines(self, rows):
        """Baselines of samples at some positions and a function that finds their mean code."""
        own = self.own_baseline
        if own is None:
            return self.references, self._common_latents
        if callable(own):
            own = own_baselines(own, self.representation.restored(self.batch(rows)))
            if self.representation.table is not None:
                own = self.representation.inputs(own)
        else:
            own = self.batch(rows, own)
        references = self.representation.tensor(own)[:, None]
        return references, functools.cache(lambda: self.mean_latents(references))

    def _common_latents(self):
        if self.z_ref is None:
            self.z_ref = self.mean_latents(self.references)
        return self.z_ref

    def mean_latents(self, references):
        """Mean representation of baselines: (1, N) or (b, N)."""
        flat, rows = references.flatten(0, 1), self.block_rows
        try:
            z = torch.cat([self.encode(flat[i : i + rows]) for i in range(0, len(flat), rows)])
        except Exception as error:
            if not _is_of_the_values(error):
                raise
            what = "a baseline of zeros" if not flat.any() else "the baseline"
            raise ValueError(
                f"the network does not run on {what} ({error}): choose another that it runs on, "
                "baseline='mean', 'background' or an array of samples."
            ) from error
        return z.view(*references.shape[:2], -1).mean(dim=1)


def _is_of_the_values(error):
    """Whether an error may be due to the numbers that a network was given."""
    if isinstance(error, torch.OutOfMemoryError):
        return False
    # A subclass of ValueError says something else: that an output is not finite, for example.
    return isinstance(error, (RuntimeError, LookupError, AssertionError, ArithmeticError)) or (
        type(error) is ValueError
    )


class AttributionEngine:
    """One method on the features of one data set, ready for any sample.

    It holds numbers, arrays and names only, so it can be saved. Everything random is drawn from its
    seed when it runs, the same for all samples.

    Parameters
    ----------
    method : str
        One of `RECORDS`.
    params : dict
        From `checked_params`.
    inputs : ndarray of shape (n, ...)
        Fitted samples, as they enter the network: for their shape, and the ranges of SmoothGrad's
        noise.
    features : Features
        The features that entries of the inputs belong to.
    baseline : ndarray of shape (K, ...) or None
        Baseline rows, averaged over; None: each sample has its own, given to `maps`.
    seed : int
        Seed of all draws.
    basis : Basis or None, default=None
        Basis along time: attribute to coefficients, in the place of time steps.

    Raises
    ------
    ValueError
        If windows or numbers of coalitions do not fit the features.
    """

    def __init__(self, method, params, inputs, features, *, baseline, seed, basis=None):
        self.method = method
        self.params = params
        self.features = features
        self.baseline = baseline
        self.seed = seed
        self.basis = basis
        self.window_shape = tuple(inputs.shape[1:]) if features.is_identity else None
        level = params.get("noise_level")
        self.noise_std = None if level is None else level * _ranges(inputs)
        self._attribute(params)  # so that what does not fit is refused in fit, not in transform

    def _attribute(self, params):
        """Build the method: a function of tensors."""
        setup = Setup(
            n_references=1 if self.baseline is None else len(self.baseline),
            players=self.features.players,
            n_players=self.features.n_players,
            window_shape=self.window_shape,
            noise_std=self.noise_std,
            columns=self.features.columns,
            n_columns=self.features.n_columns,
            basis=self.basis,
        )
        record = RECORDS[self.method]
        # A generator takes longer to make than some methods to run, and few of them draw.
        rng = check_random_state(self.seed) if "n_samples" in record.params else None
        return record.build(params, setup, rng)

    def maps(
        self,
        representation,
        inputs,
        cotangents,
        *,
        batch_size,
        encode=None,
        index=None,
        own_baseline=None,
        slopes=None,
        what=None,
        items="samples",
        parameter="method_params[{!r}]",
        by_mass=False,
        with_spread=False,
        verbose=0,
    ):
        """Attributions of functions <c_j, f(.)> of samples.

        Parameters
        ----------
        representation : Representation
            The network, in whose session it runs.
        inputs : ndarray of shape (n, ...)
            Samples, as they enter the network.
        cotangents : callable
            ``cotangents(rows, z, z_ref)`` returns c_j of the samples at positions ``rows`` as a
            tensor (b, k, N), from their representations and (``z_ref()``, 1 or b of them, computed
            when it is called) the baselines'.
        batch_size : int or "auto"
            Most rows in the network at once.
        encode : callable or None, default=None
            f, from tensors (b, ...) to (b, N); None: ``representation`` itself.
        index : ndarray of int or None, default=None
            Explain ``inputs[index]`` instead, without making it.
        own_baseline : callable, ndarray of the inputs' shape or None, default=None
            From samples to each one's own baseline, or these baselines; for engines without
            baseline rows.
        slopes : ndarray of shape (n, ...) or None, default=None
            Derivatives of the inputs by raw columns, which belong to methods whose maps are
            derivatives; None where the inputs are raw.
        what : str or None, default=None
            Name of the maps, for the progress bar and warnings; by default the method's
            attributions.
        items : str, default="samples"
            Name of what is explained, for warnings.
        parameter : str, default="method_params[{!r}]"
            How the user sets one of the method's parameters.
        by_mass : bool, default=False
            Whether what a sum misses is judged by the sum of absolute attributions where that is
            larger: for one number a sample.
        with_spread : bool, default=False
            Whether to return how sure the maps are, too; of methods that draw.
        verbose : int, default=0
            Whether to show progress.

        Returns
        -------
        maps : ndarray of shape (n, k, *features.shape)
            Or, with ``with_spread``, `Estimates`.

        Warns
        -----
        ConvergenceWarning
            If attributions of a complete method miss their sum by over 5 % for some samples.
        """
        what = f"{self.method} attributions" if what is None else what
        rows = representation.block_rows(batch_size)
        encode = representation if encode is None else encode
        slopes = slopes if RECORDS[self.method].in_raw_slope else None
        functions = encode, inputs, index, cotangents, own_baseline
        task = _Task(representation, *functions, slopes, rows, what, by_mass)
        written, errors, scores, spreads = Written(len(task)), [], [], []
        with representation.session(), torch.no_grad():
            if own_baseline is None:
                task.references = representation.tensor(self.baseline)[None]
            attribute = self._attribute(self.params)

            def run(block):
                task.block_rows = representation.block_rows(batch_size)  # fewer, once it was short
                positions = np.arange(block.start, block.stop)
                result, error, score, spread = self._run(task, attribute, positions, with_spread)
                spread = None if spread is None else self._of_spread(spread, task)
                return self._in_features(result, task, positions), error, score, spread

            def shrink():
                return representation.shrink(representation.block_rows(batch_size))

            # Enough samples at once to fill a block; the methods divide further.
            blocks = in_blocks(run, len(task), rows, shrink)
            with progress(len(task), verbose, what) as bar:
                for block, (result, error, score, spread) in blocks:
                    bar.update(block.stop - block.start)
                    if spread is not None:
                        spreads.append(spread)
                    errors.append(error)
                    scores.append(score)
                    written.add(result)
            if RECORDS[self.method].is_complete:
                errors, scores = np.concatenate(errors), np.concatenate(scores)
                allowed = self._allowed(errors.size * written.array.shape[1])
                self._check_sums(task, np.where(scores <= allowed, 0.0, errors), items, parameter)
        if not with_spread:
            return written.array
        return Estimates(
            written.array, *(np.concatenate(one) for one in zip(*spreads, strict=True))
        )

    def _check_sums(self, task, errors, items, parameter):
        """Warn where maps miss their sum."""
        advice = _Advice(self, task, errors, parameter)
        warn_incomplete(errors, advice, what=task.what, items=items)

    def _run(self, task, attribute, positions, with_spread=False):
        """Make maps of some samples; also what their sums miss, this in standard errors, spread."""
        record, signs = RECORDS[self.method], None
        x = task.representation.tensor(task.batch(positions))
        if task.slopes is not None:
            signs = torch.from_numpy(np.sign(task.batch(positions, task.slopes))).to(x)
        references, z_ref = task.baselines(positions)
        if record.uses_baseline:
            z_ref()  # first, as it says what is wrong with a baseline
        z = task.encode(x)
        cotangents = task.cotangents(positions, z, z_ref)
        squares = None
        if record.in_expectation:
            squares = z.new_zeros(cotangents.shape[:2], dtype=torch.float64)
        spread = None
        if with_spread:
            shape = *cotangents.shape[:2], self.features.n_players
            spread = Spread(
                shape, x.device, functools.partial(self._draws_in_features, task, positions)
            )
        maps = attribute(
            task.encode,
            x,
            references,
            cotangents,
            task.block_rows,
            squares=squares,
            signs=signs,
            spread=spread,
        )
        if record.needs_gradients:
            _check_finite(maps, task.batch(positions), references, positions, task.what)
        if not record.is_complete:
            return maps, None, None, spread
        n_draws = self.params.get("n_samples", 1)
        eps = task.representation.eps
        errors = completeness_errors(
            maps, z, z_ref(), cotangents, squares, n_draws, eps=eps, by_mass=task.by_mass
        )
        return maps, *errors, spread

    def _allowed(self, n_maps):
        """Return the miss, in standard errors, that random draws explain."""
        if not RECORDS[self.method].in_expectation:
            return 0.0
        return beyond_sampling(n_maps, self.params["n_samples"])

    def _draws_in_features(self, task, positions, maps, rows):
        """From entries of the inputs to features, of single draws: (b, s, n_features)."""
        if task.slopes is not None:
            slopes = task.batch(positions[rows], task.slopes)[:, None]
            maps = maps * torch.from_numpy(slopes).to(maps)
        maps = maps.flatten(2)
        if self.features.is_identity:
            return maps
        players = torch.from_numpy(self.features.players.ravel()).to(maps.device)
        return maps.new_zeros(*maps.shape[:2], self.features.n_players).index_add_(2, players, maps)

    def _of_spread(self, spread, task):
        """Errors, degrees of freedom and uncertainty as arrays in the form of maps."""
        dtype = numpy_dtype_of(task.representation.output_dtype)
        found = []
        for values in (spread.errors, spread.degrees, spread.uncertainty):
            values = spread.errors * torch.nan if values is None else values
            values = values.cpu().numpy()
            with np.errstate(over="ignore"):
                values = values.astype(dtype, copy=False)
            found.append(values.reshape(*values.shape[:2], *self.features.shape))
        return found

    def _in_features(self, maps, task, positions):
        """From entries of the inputs to features, on the CPU: (b, k, *features.shape)."""
        maps, record = maps.cpu().numpy(), RECORDS[self.method]
        if not record.needs_gradients:  # they are of features already
            maps = maps.reshape(*maps.shape[:2], *self.features.shape)
        else:
            if task.slopes is not None:
                maps = maps * task.batch(positions, task.slopes)[:, None]
            maps = self.features.sums(maps)
        dtype = numpy_dtype_of(task.representation.output_dtype)
        with np.errstate(over="ignore"):
            cast = maps.astype(dtype, copy=False)
        wrong = np.isinf(cast) if record.leaves_gaps else ~np.isfinite(cast)
        if wrong.any():
            i = int(wrong.reshape(len(cast), -1).any(axis=1).argmax())
            raise ValueError(
                f"{task.what} of sample {positions[i]} are too large for {np.dtype(dtype)}, in "
                "which the network computes; check whether X has the scale that it was trained on, "
                "or explain the network in double precision."
            )
        return cast


def _check_finite(maps, batch, references, positions, what):
    """Raise if gradients have made NaN or infinity of samples that the network takes."""
    if torch.isfinite(maps.sum()):
        return
    bad = ~torch.isfinite(maps.flatten(1)).all(dim=1)
    if not bad.any():  # only the sum was too large
        return
    i = int(bad.nonzero()[0, 0])
    if np.isnan(batch[i]).any():
        why = "has missing values: from them there is no difference to a baseline, nor a slope"
    elif torch.isnan(references).any():
        why = "is compared with a baseline that has missing values"
    else:
        why = "is where the network has no finite slope (at the root or logarithm of 0, say)"
    raise ValueError(
        f"{what} are not finite for sample {positions[i]}, which {why}. Methods without gradients "
        f"work: {', '.join(map(repr, PERTURBATION_METHODS))}."
    )


class _Advice:
    """What to do about attributions that miss their sum."""

    def __init__(self, engine, task, errors, parameter):
        self.engine = engine
        self.task = task
        self.errors = errors
        self.parameter = parameter

    def __call__(self, worst):
        record = RECORDS[self.engine.method]
        names = {name: self.parameter.format(name) for name in record.params}
        if record.refined_by is None:
            return record.shortfall.format(**names)
        name = names[record.refined_by]
        # A twentieth of the samples at most, so that advice costs little beside what it is about.
        n_tried = min(_N_TRIED_AGAIN, max(1, len(self.errors) // 20))
        if self._more_helps(record.refined_by, worst[:n_tried]):
            return f"raise {name}"
        return f"twice {name} does not help, as {record.shortfall.format(**names)}"

    def _more_helps(self, name, worst):
        engine = self.engine
        params = engine.params | {name: 2 * engine.params[name]}
        worst = worst[: self.task.block_rows]
        try:
            _, errors, *_ = engine._run(self.task, engine._attribute(params), worst)
        except torch.OutOfMemoryError:  # as many rows as went well, with more steps
            return False
        return errors.max() <= MAX_ERROR or errors.sum() <= _HELPS * self.errors[worst].sum()


def _ranges(inputs):
    """Range of the data: a column's own in tables, else that of all entries."""
    axis = 0 if inputs.ndim == 2 else None
    low, high = known_range(inputs, axis)
    # Where nothing is known, nothing varies.
    spread = np.nan_to_num(high - low)
    return np.broadcast_to(spread.astype(np.float64), inputs.shape[1:]).copy()
