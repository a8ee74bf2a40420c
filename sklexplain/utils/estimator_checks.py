"""The old place of `sklexplain.testing.estimator_checks`."""

import warnings


def __getattr__(name):
    from ..testing import estimator_checks

    if name in estimator_checks.__all__:
        warnings.warn(
            f"sklexplain.utils.estimator_checks.{name} has moved: import it from "
            "sklexplain.testing.estimator_checks.",
            FutureWarning,
            stacklevel=2,
        )
        return getattr(estimator_checks, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
