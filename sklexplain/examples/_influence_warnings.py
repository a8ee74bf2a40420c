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


def warn_of_residual(residual, solver, largest):
    """Warn that a solver's solution is none."""
    warn(
        f"importance is not right: solver={solver!r} leaves a relative residual of {residual:.2g} "
        f"for the worst gradient, above {largest} (no solution at all has 1). Raise damping, "
        "max_iter of solver='cg' or rank of solver='low_rank', set another solver, or look at "
        "fewer parameters.",
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


def warn_of_asymmetry(skew, curvature):
    """Warn that second derivatives contradict each other."""
    other = "set curvature='gauss_newton', " if curvature == "hessian" else ""
    warn(
        f"the curvature is not symmetric, by {skew:.1%} of its size, as second derivatives are: "
        "some operation of the network or of the loss is differentiated wrongly, and importance "
        f"is wrong with it. Write that operation out, {other}or use TracInImportance, which needs "
        "no second derivatives."
    )
