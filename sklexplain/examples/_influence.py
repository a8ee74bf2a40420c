"""Example importance by influence functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..gradients import (
    DenseSolver,
    GaussNewtonRows,
    IterativeSolver,
    JacobianSolver,
    Shift,
    double_terms,
    flatten_terms,
    multiply_terms,
    requiring_gradients,
)
from ..utils import (
    BatchSize,
    Choice,
    DeviceLike,
    Integer,
    ModelLike,
    Number,
    RandomState,
    spread_places,
)
from ._base import check_finite
from ._gradients import BaseGradientImportance
from ._influence_warnings import (
    warn_of_asymmetry,
    warn_of_negative_curvature,
    warn_of_no_curvature,
    warn_of_residual,
)
from ._linear_system import LinearSystem, most_rows, number_of_rows
from ._losses import acts_on_weights
from ._optimizer import of_groups

_MAX_DENSE = 5000  # length of a matrix that is decomposed
_AUTO_PRODUCTS = 500  # products with C that auto takes for worth it
_AUTO_FLOPS = 10**12  # and multiplications
_CG_FLOPS = 2 * 10**13  # of conjugate gradients that auto takes for worth it
_MOST_FACTORED = 64  # rows of a sample of which products with C are made, and not by the network
_N_PRODUCTS = 1000 + 100 * 5  # that auto expects: of a preconditioner, and queries times iterations
_COARSE = 1e-3  # of those residuals
_TOL, _AUTO_TOL = 1e-6, 0.05  # residual at which conjugate gradients stop
_ROW_ENTRIES = 2**25  # of the importance matrix at once
_N_RESIDUALS = 2
_MAX_RESIDUAL = 0.1  # of any solver, before a warning; no solution at all would have 1
_ASYMMETRY = {torch.float64: 1e-6, torch.float32: 1e-3}  # relative size that rounding makes


class InfluenceImportance(BaseGradientImportance):
    r"""Importance of training examples by their influence on the trained parameters.

    If example n had not been there, the parameters :math:`\theta_r` that minimise the mean training
    loss would be others, and the loss L of a sample x would be higher by about ([1]_, section 2;
    without labels [2]_, section 3.1)

    .. math:: c_n(x) = \frac{1}{n_\mathrm{train}}
              \left\langle \nabla_{\theta_r} L(x), H^{-1} \nabla_{\theta_r} L(x_n) \right\rangle,
              \qquad H = C + (w + \delta) I,

    where C is the curvature of the mean training loss in :math:`\theta_r`, w the weight decay (of
    every parameter its own) and :math:`\delta` the damping. Positive: the example helps the sample.

    Parameters
    ----------
    estimator : nn.Module or estimator
        What is explained: a torch module, a skorch net, an :class:`~sklexplain.nets.Autoencoder`,
        or a Pipeline with one of them as its last step. An unfitted estimator is cloned and fitted
        in ``fit``.
    loss : callable, {"stability", "nt_xent"} or None, default=None
        From the network's output (all of it, if that is a tuple) and its input, tensors of shape
        (n, ...), to one loss a sample (n,); with a third argument, it is given the targets y as
        well. None:

        - of a module, the mean squared error between the (first) output and the input;
        - of an :class:`~sklexplain.nets.Autoencoder`, its criterion between the two; a class head's
          cross-entropy is left out. If it was trained with a random pretext task (denoising,
          inpainting), the mean over ``n_draws`` draws that are the same for all samples;
        - of a :class:`~sklexplain.nets.VariationalAutoencoder`, the negative ELBO with its own
          weights, over ``n_draws`` draws of the code;
        - of a :class:`~sklexplain.nets.ContrastiveEncoder`, whose own loss is one of pairs,
          ``"stability"``: how far two views of the sample are from each other, squared, over
          ``n_draws`` pairs of views; or, if named, ``"nt_xent"``: the loss of training, among
          views of up to 256 training examples in the place of the other samples in a batch, which
          needs ``curvature="hessian"``;
        - of a skorch net, what training minimised: its own ``get_loss`` for each sample, of the
          input if the net reconstructs that, else of y. Where training may have minimised
          something else, a TypeError asks for ``loss``.
    parameters : {"encoder", "all"} or list of str, default="encoder"
        The parameters :math:`\theta_r`: those of the network's submodule ``encoder``, all, or those
        named, as in ``named_parameters()`` and ``named_modules()``. Frozen ones
        (``requires_grad=False``) are taken like others; to leave them out, name the trainable:
        ``[name for name, p in module.named_parameters() if p.requires_grad]``.
    solver : {"auto", "exact", "cg", "low_rank"}, default="auto"
        - ``"exact"``: H is decomposed, or with ``"gauss_newton"`` the smaller matrix of its rows'
          inner products, of which an encoder has only as many as its code has entries for each
          training example;
        - ``"cg"``: conjugate gradients, together for as many right-hand sides as there are
          samples or training examples, whichever are fewer, each until it has converged; for
          ``"gauss_newton"`` with a randomised Nyström preconditioner [3]_;
        - ``"low_rank"``: a Gauss–Newton matrix of ``rank`` random rows, right in expectation, whose
          residual is often large;
        - ``"auto"``: ``"exact"`` where that is affordable, else ``"cg"``, or ``"low_rank"`` where
          even that would take many minutes; see ``solver_`` and ``verbose``.
    curvature : {"gauss_newton", "hessian"}, default="gauss_newton"
        C: the Hessian, or the Gauss–Newton matrix, which leaves out the curvature of the network
        itself and what is negative in the curvature of the loss, see the notes.
    damping : float, default=1e-3
        :math:`\delta`, absolute, in the units of C. A ValueError says if it is lost in the rounding
        of C.
    tol : float or "auto", default="auto"
        Relative residual at which conjugate gradients stop. "auto": 1e-6; where
        ``solver="auto"`` took them for ``"gauss_newton"``, 0.05.
    max_iter : int, default=1000
        Most iterations of conjugate gradients.
    rank : int, default=2000
        Number of rows of ``"low_rank"``, fewer if they take more than 1 GB.
    n_draws : int, default=8
        Number of draws of a random pretext task, of the code, or of pairs of views.
    max_bytes : int, default=2**31
        Largest dense matrix that `transform` returns.
    batch_size : int or "auto", default="auto"
        Most samples in the network at once. "auto": 1024; on a GPU, what its memory holds.
    device : str, torch.device or None, default=None
        Where the network runs; None: where it is.
    random_state : int, RandomState instance or None, default=None
        Seed of the pretext task's draws and of the rows of ``"low_rank"``.
    verbose : int, default=0
        Whether to show progress, and say which solver ``"auto"`` chose and why.

    Attributes
    ----------
    estimator_ : nn.Module or estimator
        The fitted estimator that is explained.
    solver_ : str
        The solver that was chosen.
    residual_ : float
        Largest :math:`\|H s - g\| / \|g\|` over the gradients g of a few training examples, s being
        the solver's :math:`H^{-1} g` and H the curvature over all of them. Above 0.1, a warning
        says that importance is not right, whichever solver it is.
    n_iter_ : int
        Most iterations of conjugate gradients for one of them; 1 for the other solvers.
    weight_decay_ : float or ndarray of shape (n_parameters,)
        w, of the optimizer's parameter groups; 0 for a module. An array, in the order of
        ``parameters_``, if it is not the same for all of them.
    parameters_ : list of str
        Names of the parameters that gradients are taken in.
    corpus_index_ : ndarray of shape (n_train,)
        Labels of the training examples: the index of a pandas DataFrame, else positions.
    n_features_in_ : int
        Size of axis 1 of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, if X was a DataFrame with names.
    input_shape_ : tuple of int
        Shape of one sample.
    seed_ : int
        Seed of everything random, derived from ``random_state``.

    Warns
    -----
    ConvergenceWarning
        If ``residual_`` is above 0.1; by ``"cg"`` also later, for the gradients that it solves for.
    UserWarning
        If the curvature is 0, negative in some directions, or not symmetric, as it is where torch
        differentiates an operation wrongly.

    See Also
    --------
    TracInImportance : Importance by gradients alone.
    DKNNImportance : Importance by representations, without a loss.
    sklexplain.SimplExImportance : Importance as weights of a combination.
    sklexplain.plotting.ExampleDisplay : A sample and its examples.

    Notes
    -----
    With much damping, importance tends to the inner product of gradients over
    :math:`\delta\, n_\mathrm{train}`; with little, directions in which the training loss hardly
    bends decide. With the encoder's Jacobian E in the code z and the decoder's D,
    the Gauss–Newton matrix is :math:`\frac{1}{n} \sum_n E_n^\top (D_n^\top S_n D_n) E_n`, S the
    loss's second derivatives: that is why it has few rows. Training examples' gradients are
    combinations of the same rows :math:`E_n`, so ``"exact"`` needs no more than those rows' inner
    products. They are taken in the network's dtype where its rounding is far below the damping,
    else in float64.

    Of a loss that is not convex in the output, S is taken without what is negative in it, by every
    solver: entries of the diagonal where each output counts for itself, eigenvalues where up to 256
    outputs are coupled. With more, ``"exact"`` and ``"low_rank"`` leave out negative eigenvalues of
    :math:`D_n^\top S_n D_n`, and ``"cg"`` warns when it meets one.

    Leaving an example out of contrastive training acts on the others also through what it pushes
    away from itself. ``"stability"`` does not see that: it ranks examples by how their views teach
    the encoder to ignore what views differ in, by the curvature of that loss and not of the one
    that was trained, and hardly agrees with what training without them does. ``"nt_xent"`` is, in
    the mean over the training examples, the loss of training on these views, and does agree where
    training has come to a minimum.

    A loss that takes y needs the targets of samples as well as those of the training examples:
    ``transform(X, y)``. Without them, a sample that is a training example has that one's y, and for
    any other the class that the network predicts stands in, so that the examples found are those
    that back the prediction; a regressor has no such stand-in, and a ValueError asks for y. Where
    weights of classes, or ignored labels, make the criterion divide by other numbers than that of
    the samples, losses are weighted so that their mean over the training examples is the net's own
    loss of them all.

    Cost: `fit` runs every training example a few times through the network (seven times, of a small
    autoencoder with a code of three), and keeps what the solver needs; `transform` every training
    example and every sample once, forward and backward, times ``n_draws`` where the loss is random.
    The rest is the solver's.

    References
    ----------
    .. [1] P. W. Koh and P. Liang, "Understanding Black-box Predictions via Influence Functions",
       ICML 2017.
    .. [2] J. Crabbé and M. van der Schaar, "Label-Free Explainability for Unsupervised Models",
       ICML 2022.
    .. [3] Z. Frangella, J. A. Tropp and M. Udell, "Randomized Nyström Preconditioning", SIAM
       Journal on Matrix Analysis and Applications 44, 2023.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklexplain import InfluenceImportance
    >>> from sklexplain.nets import Autoencoder
    >>> X, y = load_iris(return_X_y=True)
    >>> autoencoder = Autoencoder(
    ...     n_components=2, validation_split=None, max_epochs=30, random_state=0
    ... ).fit(X[::2])
    >>> influence = InfluenceImportance(autoencoder).fit(X[::2], y[::2])
    >>> influence.transform(X[1::2]).shape
    (75, 75)
    >>> influence.solver_
    'exact'
    >>> influence.residual_ < 1e-2
    True
    """

    _parameter_constraints = {
        "solver": [Choice("auto", "cg", "exact", "low_rank")],
        "curvature": [Choice("gauss_newton", "hessian")],
        "damping": [Number(above=0)],
        "tol": [Number(above=0), Choice("auto")],
        "max_iter": [Integer()],
        "rank": [Integer()],
    }

    def __init__(
        self,
        estimator: ModelLike,
        *,
        loss: Literal["stability", "nt_xent"] | Callable[..., Any] | None = None,
        parameters: str | Sequence[str] = "encoder",
        solver: Literal["auto", "cg", "exact", "low_rank"] = "auto",
        curvature: Literal["gauss_newton", "hessian"] = "gauss_newton",
        damping: float = 1e-3,
        tol: float | Literal["auto"] = "auto",
        max_iter: int = 1000,
        rank: int = 2000,
        n_draws: int = 8,
        max_bytes: int = 2**31,
        batch_size: BatchSize = "auto",
        device: DeviceLike | None = None,
        random_state: RandomState = None,
        verbose: int | bool = 0,
    ) -> None:
        self.estimator = estimator
        self.loss = loss
        self.parameters = parameters
        self.solver = solver
        self.curvature = curvature
        self.damping = damping
        self.tol = tol
        self.max_iter = max_iter
        self.rank = rank
        self.n_draws = n_draws
        self.max_bytes = max_bytes
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _check_params(self):
        super()._check_params()
        if self.solver == "low_rank" and self.curvature == "hessian":
            raise ValueError(
                "solver='low_rank' is a Gauss–Newton matrix of few rows, but "
                "curvature='hessian'; set curvature='gauss_newton', or solver='cg'."
            )

    def _fit_corpus(self, inputs):
        network, params = self._network(), self._params_at_fit
        losses = self._plan_losses(network)
        by_rows = params.curvature == "gauss_newton"
        waist = dict(network.module.named_children()).get("encoder") if by_rows else None
        trial = self._try_gradients(network, losses, waist)
        decay = self._find_weight_decay(network)
        shift = Shift({n: params.damping + w for n, w in decay.items()})
        self._system = LinearSystem(self._examples, params.curvature, shift, self.seed_)
        if by_rows:
            self._check_acts_through_output(losses, trial)
        gradients = self._gradients()
        if by_rows:
            self._system.find_cut(gradients, trial)
        rows = GaussNewtonRows(losses, trial, waist, self._system.cut) if by_rows else None
        if rows is not None and not rows.holds(
            gradients.batches(self._examples), gradients.parameters
        ):
            rows = GaussNewtonRows(losses, trial, None, self._system.cut)
        del trial  # and the graph of its pass
        self.solver_, self._solver = self._build(gradients, rows)
        self.residual_ = self._residual(gradients)

    def _find_weight_decay(self, network):
        decay = of_groups(network, self.parameters_, "weight_decay", 0.0)
        values = np.array(list(decay.values()))
        self.weight_decay_ = float(values[0]) if (values == values[0]).all() else values
        return decay

    def _check_acts_through_output(self, losses, trial):
        _, outputs, _ = trial.result
        weights = list(trial.parameters.values())
        with requiring_gradients(weights):
            acts = acts_on_weights(losses, outputs, trial.x, weights)
        if acts:
            raise TypeError(
                "the loss depends on the network's weights otherwise than through its output (by a "
                "penalty on them, for example), and the Gauss–Newton matrix leaves that out; set "
                "curvature='hessian', or pass loss without it."
            )

    # -- solvers -------------------------------------------------------------------------------

    def _build(self, gradients, rows):
        """Choose a solver and prepare it; conjugate gradients need no preparation."""
        system, params = self._system, self._params_at_fit
        p, n_rows = gradients.plan.n_parameters, number_of_rows(rows, len(self._corpus))
        # Of all rows only the inner products are needed, if they are few and fit into memory.
        few = n_rows < p and n_rows <= min(_MAX_DENSE, most_rows(gradients))
        solver = self._affordable(p, n_rows, few) if params.solver == "auto" else params.solver
        if solver == "cg":
            if n_rows <= _MOST_FACTORED * len(self._corpus):
                system.prepare_iterations(gradients, rows, precondition=p > _AUTO_PRODUCTS)
            return solver, None
        if solver == "low_rank":
            return solver, system.random_rows_solver(gradients, rows, params.rank)
        if few:
            return solver, system.jacobian_solver(gradients, rows)
        if p > _MAX_DENSE:
            raise ValueError(
                f"solver='exact' would decompose the curvature in {p} parameters, but at most "
                f"{_MAX_DENSE} are affordable; set solver='auto', 'cg' or 'low_rank', or look at "
                "fewer parameters."
            )
        if n_rows < np.inf and rows.n_rows < p:
            matrix = system.matrix_of_rows(gradients, rows)
        else:
            matrix = system.matrix_of_products(gradients)
        dense = DenseSolver(matrix, system.shift.smallest)
        self._warn(dense)
        return solver, dense

    def _affordable(self, p, n_rows, few):
        """Return the solver that ``"auto"`` stands for."""
        exact = few or p <= _AUTO_PRODUCTS
        iterations = np.inf
        if self._params_at_fit.curvature == "hessian" or n_rows == np.inf:
            iterations = 0  # nothing else is left
        else:
            exact = exact or (p <= _MAX_DENSE and n_rows * p**2 <= _AUTO_FLOPS)
            if n_rows <= _MOST_FACTORED * len(self._corpus):
                iterations = 2 * n_rows * p * _N_PRODUCTS
        solver = "exact" if exact else "cg" if iterations <= _CG_FLOPS else "low_rank"
        if self._params_at_fit.verbose:
            print(_auto_text(solver, p, n_rows, iterations))
        return solver

    def _open_solver(self, gradients):
        """Return the solver; conjugate gradients run the network."""
        if self._solver is not None:
            return self._solver.moved(self._representation.device)
        preconditioner = self._system.preconditioner
        if preconditioner is not None:
            preconditioner.moved(self._representation.device)
        return IterativeSolver(
            self._system.multiplier(gradients),
            self._tol(),
            self._params_at_fit.max_iter,
            preconditioner,
        )

    def _tol(self):
        params = self._params_at_fit
        if params.tol != "auto":
            return params.tol
        by_auto = params.solver == "auto" and params.curvature == "gauss_newton"
        return _AUTO_TOL if by_auto else _TOL

    def _residual(self, gradients):
        chosen = spread_places(len(self._corpus), _N_RESIDUALS)
        g = flatten_terms(double_terms(gradients.terms(self._examples[chosen])))
        solver = self._open_solver(gradients)
        by_rows = isinstance(solver, JacobianSolver)
        solved = solver.solved(chosen) if by_rows else solver.solve(g)
        self.n_iter_ = 1
        if self.solver_ == "cg":
            self.n_iter_ = max(1, solver.n_iter)
        self._check_finite(solved)
        bent = self._system.curvature_products(gradients, solved)
        products = bent + self._system.diagonal(gradients, solved) * solved
        skew = self._system.asymmetry(gradients, g)
        flat = bool(g.any()) and not bent.any()
        length, error = g.norm(dim=1), (products - g).norm(dim=1)
        worst = float(torch.where(length > 0, error / length, 0.0).max())
        if flat:
            warn_of_no_curvature()
        if skew > _ASYMMETRY.get(gradients.parameters[0].dtype, _MAX_RESIDUAL):
            warn_of_asymmetry(skew, self._params_at_fit.curvature)
        if self.solver_ == "cg" and solver.negative_curvature:
            warn_of_negative_curvature(self._params_at_fit.damping)
        self._warn_of_residual(worst)
        return worst

    def _check_finite(self, solved):
        if not torch.isfinite(solved).all():
            raise ValueError(
                "influence is not finite: the gradients or the curvature of some training examples "
                f"are too large for damping={self._params_at_fit.damping}; raise it, or scale X."
            )

    def _warn_of_residual(self, residual):
        if not residual <= _MAX_RESIDUAL:
            warn_of_residual(residual, self.solver_, _MAX_RESIDUAL)

    def _warn(self, solver):
        if solver.negative_curvature:
            warn_of_negative_curvature(self._params_at_fit.damping)
        if isinstance(solver, IterativeSolver):
            self._warn_of_residual(solver.residual)

    # -- importance ----------------------------------------------------------------------------

    def _blocks(self, inputs, exclude_self=False):
        inputs = self._with_targets(inputs, exclude_self=exclude_self)
        n_train, gradients = len(self._corpus), self._gradients()
        step = min(gradients.rows_at_once, max(1, _ROW_ENTRIES // n_train))
        if isinstance(self._solver, JacobianSolver):
            multiply = self._open_solver(gradients).corpus_products
        elif self._solver is not None:
            multiply = partial(self._products_by_factors, gradients)
        elif len(inputs) < n_train:
            multiply = partial(self._products_solving_samples, gradients)
        else:
            multiply = partial(self._products_solving_corpus, gradients, {})
        for start in range(0, len(inputs), step):
            rows = slice(start, min(start + step, len(inputs)))
            products = multiply(gradients.terms(inputs[rows]))
            yield rows, (products / n_train).cpu().numpy().astype(self._dtype)

    # Three ways to the same: products of samples' gradients with H⁻¹ and the corpus's gradients,
    # (n_terms, n_train). A decomposed H takes both sets of gradients as they are. Conjugate
    # gradients solve a system for every gradient of one of the sets, so for those of the smaller
    # one: the samples', or the corpus's, which are then solved for the first samples and kept.

    def _products_by_factors(self, gradients, terms):
        solver = self._open_solver(gradients)
        blocks = gradients.blocks(self._examples, key="corpus")
        return torch.cat([solver.inner(terms, corpus) for _, corpus in blocks], dim=1)

    def _products_solving_samples(self, gradients, terms):
        solver = self._open_solver(gradients)
        solved = solver.solve(flatten_terms(double_terms(terms)))
        blocks = gradients.blocks(self._examples, key="corpus")
        products = []
        for _, corpus in blocks:
            if self._tol() >= _COARSE:  # then float32 is far more than there is to keep
                kept = next(iter(corpus.values()))
                like = kept.b if hasattr(kept, "b") else kept.values
                products.append(multiply_terms(corpus, solved.to(like.dtype)).T.double())
            else:
                products.append(multiply_terms(double_terms(corpus), solved).T)
        self._warn(solver)
        return torch.cat(products, dim=1)

    def _products_solving_corpus(self, gradients, solved, terms):
        """Multiply; ``solved`` holds solutions by the corpus's rows, and is filled once."""
        if not solved:
            solver = self._open_solver(gradients)
            for columns, corpus in gradients.blocks(self._examples):
                solved[columns.start] = solver.solve(flatten_terms(double_terms(corpus)))
            self._warn(solver)
        vectors = flatten_terms(double_terms(terms))
        return torch.cat([vectors @ part.T for part in solved.values()], dim=1)

    def self_influence(self, X: ArrayLike, y: ArrayLike | None = None) -> np.ndarray:
        r"""Return the importance that samples would have for themselves.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples, in raw units.
        y : array-like of shape (n_samples, ...), default=None
            See ``transform``.

        Returns
        -------
        influence : ndarray of shape (n_samples,)
            :math:`\frac{1}{n_\mathrm{train}} \langle \nabla L(x), H^{-1} \nabla L(x) \rangle`.
            Large for samples that the network had to learn by heart.
        """
        with self._door(X) as inputs:
            inputs = self._with_targets(inputs, y)
            out = np.zeros(len(inputs), dtype=self._dtype)
            gradients = self._gradients()
            solver = self._open_solver(gradients)
            for rows, terms in gradients.blocks(inputs):
                out[rows] = (solver.diagonal(terms) / len(self._corpus)).cpu().numpy()
            check_finite(0, out)
            return out


def _auto_text(solver, p, n_rows, iterations):
    """Words about the choice."""
    costs = [f"conjugate gradients about {iterations:.1g}"] if 0 < iterations < np.inf else []
    if n_rows < np.inf:
        costs.insert(0, f"an exact solution takes {n_rows * p * min(p, n_rows) / 2:.1g}")
    costs = f": {', '.join(costs)} multiplications" if costs else ""
    rows = f", {n_rows} rows of the Jacobian" if n_rows < np.inf else ""
    return f"[InfluenceImportance] solver={solver!r} for {p} parameters{rows}{costs}."
