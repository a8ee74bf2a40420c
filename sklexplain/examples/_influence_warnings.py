"""What `InfluenceImportance` warns of."""

from ..exceptions import ConvergenceWarning
from ..utils import warn


def warn_of_no_curvature():
    """Warn that the loss has no second derivatives."""
    warn(
        "the curvature of the training loss is 0 (an absolute error has no second "
        "derivatives), so importance is the inner product of gradients over damping * "
        "n_train; pass a smooth loss, such as the squared error, or set "
        "curvature='hessian' if it is the Gauss–Newton matrix that is 0."
    )


def warn_of_few_rows(rank, residual):
    """Warn that random rows are too few for the curvature."""
    warn(
        f"the random rows of solver='low_rank', at most rank={rank}, are far from the "
        f"curvature: the relative residual is {residual:.2g}, and 1 is no solution at all. "
        "Raise rank or damping; or take fewer training examples or n_draws, or set "
        "solver='cg', for a solution that is not random.",
        ConvergenceWarning,
    )


def warn_of_negative_curvature(damping):
    """Warn that the curvature is negative somewhere."""
    warn(
        f"the curvature is negative in some directions even with damping={damping}: "
        "the weights are no minimum of the training loss, and influence is not what "
        "leaving examples out would do. Train longer, raise damping, or set "
        "curvature='gauss_newton'."
    )


def warn_of_no_convergence(max_iter, residual, tol):
    """Warn that conjugate gradients stopped early."""
    warn(
        f"conjugate gradients stopped at max_iter={max_iter} with a relative residual "
        f"of {residual:.2g}, above tol={tol}; raise max_iter or damping.",
        ConvergenceWarning,
    )
