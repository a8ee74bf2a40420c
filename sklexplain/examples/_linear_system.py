"""The linear system of influence functions: H = C + (w + δ) I over the training examples."""

from functools import partial

import numpy as np
import torch
from sklearn.utils import check_random_state

from ..gradients import (
    GaussNewtonRows,
    JacobianSolver,
    PassProducts,
    RowsSolver,
    asymmetry,
    bends_back,
    curvature_products,
    flatten_terms,
    join_terms,
    joined_products,
    nystrom,
    terms_bytes,
)
from ..utils import normal, spread_places

_MOST_VECTORS = 1000  # of a preconditioner
_MAX_SKETCH_BYTES = 2**30  # and their size
_MAX_SIZE = 1024  # entries of z, of which curvatures are decomposed for each sample
_ROWS_BYTES = 2**30
_ROOT_BYTES = 2**27
_N_SIDES = 3  # random vectors that tell whether the curvature is symmetric
_N_TELLING = 128  # training examples that do


class LinearSystem:
    """H, by products with it, by its rows, and as a matrix.

    Nothing of a network is kept: every method takes the gradients of the session that runs.

    Parameters
    ----------
    examples : ndarray or Labelled of length n_train
        The training examples, with their targets if the loss takes any.
    curvature : {"gauss_newton", "hessian"}
        C.
    shift : Shift
        What is added to its diagonal.
    seed : int
        Of whatever is drawn at random.

    Attributes
    ----------
    cut : bool
        Whether what is negative in the losses' curvature is left out; see `find_cut`.
    factors : JoinedProducts or None
        Factors of the Jacobian of all examples, where they fit into memory.
    preconditioner : Nystrom or None
        Of conjugate gradients.
    """

    def __init__(self, examples, curvature, shift, seed):
        self.examples = examples
        self.curvature = curvature
        self.shift = shift
        self.seed = seed
        self.cut = False
        self.factors = self.preconditioner = self._kept_rows = None

    def find_cut(self, gradients, trial):
        """Find out whether the loss has negative second derivatives in the network's output.

        Parameters
        ----------
        gradients : Gradients
            Of the running session.
        trial : Trial
            A pass of a few examples.
        """
        output = trial.result[1][0]
        size = output[0].numel() if isinstance(output, torch.Tensor) else 1
        step = max(1, _ROOT_BYTES // (8 * min(size, _MAX_SIZE) ** 2))
        self.cut = bends_back(gradients.losses, gradients.batches(self.examples, step))

    # -- products ------------------------------------------------------------------------------

    def products(self, gradients, vectors):
        """Multiply vectors (k, p) with H, by running the network."""
        bent = self.curvature_products(gradients, vectors)
        return bent + self.diagonal(gradients, vectors) * vectors

    def curvature_products(self, gradients, vectors, examples=None):
        """Multiply vectors (k, p) with C, or with that of some examples."""
        return curvature_products(
            gradients.losses,
            gradients.parameters,
            gradients.batches(self.examples if examples is None else examples),
            vectors,
            self.curvature,
            self.cut,
        )

    def diagonal(self, gradients, like):
        """Return what H adds to the diagonal of the curvature, (p,)."""
        parameters = zip(gradients.plan.parameters, gradients.parameters, strict=True)
        return self.shift.diagonal({name: p.numel() for name, p in parameters}, like)

    def asymmetry(self, gradients, like):
        """How far the curvature is from symmetric, over as many examples as can tell."""
        n_train = len(self.examples)
        some = spread_places(n_train, _N_TELLING)
        sides = normal(torch.Generator().manual_seed(0), _N_SIDES, like.shape[1]).to(like)
        return asymmetry(sides, self.curvature_products(gradients, sides, self.examples[some]))

    # -- conjugate gradients -------------------------------------------------------------------
    # They run the network for their products, or use the factors of its Jacobian: those are kept
    # if they fit into memory, else made anew for every product.

    def prepare_iterations(self, gradients, rows, *, precondition):
        """Keep what products with C by factors need, and a preconditioner made with them.

        Parameters
        ----------
        gradients : Gradients
            Of the running session.
        rows : GaussNewtonRows
            How the rows of the Gauss–Newton matrix are made.
        precondition : bool
            Whether a preconditioner is worth it.
        """
        self._kept_rows = rows.kept()
        parts, n_bytes = [], 0
        for jacobian, roots, _ in self._row_factors(gradients, rows):
            parts.append((jacobian, roots))
            n_bytes += terms_bytes(jacobian)
            if n_bytes > _ROWS_BYTES:
                parts = []
                break
        if parts:
            self.factors = joined_products(parts)
        del parts
        p = gradients.plan.n_parameters
        most = min(_MOST_VECTORS, p // 4, _MAX_SKETCH_BYTES // (8 * p))
        if most and precondition:
            self.preconditioner = self._sketched(gradients, most)

    def _sketched(self, gradients, most):
        """Make a preconditioner of at most so many vectors; None where C is 0."""
        generator = torch.Generator().manual_seed(self.seed)
        products, narrow = self._factored_products(gradients).narrowed(generator)
        scale = None
        like = gradients.parameters[0]
        diagonal = self.diagonal(gradients, like.new_zeros(1, dtype=torch.float64))
        smallest = float(diagonal.min())
        if bool((diagonal > smallest).any()):
            scale = (smallest / diagonal).sqrt()
        return nystrom(
            products,
            partial(products.sketch, generator=generator),
            smallest,
            most,
            scale,
            torch.promote_types(like.dtype, torch.float32),
            narrow,
        )

    def _factored_products(self, gradients):
        """Return what multiplies with C by factors; None if the network has to be run for it."""
        if self._kept_rows is None:
            return None
        if self.factors is not None:
            return self.factors.moved(gradients.parameters[0].device)
        waist = dict(gradients.module.named_children()).get("encoder")
        rows = GaussNewtonRows.again(gradients.losses, self._kept_rows, waist)
        return PassProducts(lambda: (part[:2] for part in self._row_factors(gradients, rows)))

    def multiplier(self, gradients):
        """Return the function that multiplies vectors (k, p) with H in the fastest way there is."""
        products = self._factored_products(gradients)
        if products is None:
            return partial(self.products, gradients)
        return lambda vectors: products(vectors) + self.diagonal(gradients, vectors) * vectors

    # -- rows and matrices ---------------------------------------------------------------------

    def _row_factors(self, gradients, rows):
        """Yield the Jacobian's factors, L and the losses' slopes, a few examples at a time."""
        for x in self._row_batches(gradients, rows, self.examples):
            jacobian = rows.jacobian(x)
            roots, slopes = rows.factors(x)
            yield jacobian, roots / len(self.examples) ** 0.5, slopes

    def _row_batches(self, gradients, rows, inputs):
        row_bytes = max(8 * rows.size**2, rows.n_rows * gradients.bytes_per_sample)
        return gradients.batches(inputs, max(1, _ROOT_BYTES // row_bytes))

    def jacobian_solver(self, gradients, rows):
        """Return what solves by the inner products of the Jacobian's rows."""
        parts = self._row_factors(gradients, rows)
        jacobian, roots, slopes = map(list, zip(*parts, strict=True))
        roots, slopes = torch.cat(roots), torch.cat(slopes)
        return JacobianSolver(join_terms(jacobian), roots, slopes, self.shift)

    def matrix_of_products(self, gradients):
        """H, by a product with every unit vector."""
        p, device = gradients.plan.n_parameters, gradients.parameters[0].device
        unit = torch.eye(p, dtype=torch.float64, device=device)
        matrix = self.products(gradients, unit)
        return (matrix + matrix.T) / 2

    def matrix_of_rows(self, gradients, rows):
        """H, by the rows of the Gauss–Newton matrix."""
        p, device = gradients.plan.n_parameters, gradients.parameters[0].device
        matrix = torch.zeros(p, p, dtype=torch.float64, device=device)
        step = max(1, _ROOT_BYTES // (8 * p * rows.n_rows))
        step = min(step, max(1, _ROOT_BYTES // (8 * rows.size**2)))
        for x in gradients.batches(self.examples, step):
            part = flatten_terms(rows.rows(x, len(self.examples))).double()
            matrix += part.T @ part
        matrix.diagonal().add_(self.diagonal(gradients, matrix))
        return matrix

    def random_rows_solver(self, gradients, rows, rank):
        """Return what solves by random rows: signs for every example, or for some of them.

        Parameters
        ----------
        gradients : Gradients
            Of the running session.
        rows : GaussNewtonRows
            How the rows of the Gauss–Newton matrix are made.
        rank : int
            Most rows.

        Returns
        -------
        solver : RowsSolver

        Raises
        ------
        ValueError
            If the network has too many outputs for the curvatures to be decomposed.
        """
        if rows.size > _MAX_SIZE:
            raise ValueError(
                f"solver='low_rank' decomposes the loss's curvature in the network's {rows.size} "
                f"outputs for each example, but at most {_MAX_SIZE} are affordable; look at the "
                "encoder's parameters only, or set solver='cg'."
            )
        rng, n_train = check_random_state(self.seed), len(self.examples)
        draws, rank = rows.n_rows // rows.size, min(rank, most_rows(gradients))
        n_chosen = min(n_train, max(1, rank // draws))
        chosen = np.sort(rng.permutation(n_train)[:n_chosen])
        k = max(1, rank // (draws * n_chosen))
        parts = []
        for x in self._row_batches(gradients, rows, self.examples[chosen]):
            probes = None
            if k < rows.size:
                signs = rng.choice([-1.0, 1.0], size=(len(x), rows.size, k))
                probes = torch.from_numpy(signs / k**0.5)
            parts.append(rows.rows(x, n_chosen, probes))
        return RowsSolver(join_terms(parts), self.shift)


def most_rows(gradients):
    """Return the number of rows that fit into memory, in float64."""
    return max(1, _ROWS_BYTES // (2 * gradients.bytes_per_sample))


def number_of_rows(rows, n_train):
    """Rows of the Gauss–Newton matrix of all examples; infinity if they cannot be made."""
    if rows is None or rows.size > _MAX_SIZE:
        return np.inf
    return n_train * rows.n_rows
