"""A fixed sample in `make test`, more in `make fuzz`: the same draws in every run of either."""

import os

from hypothesis import HealthCheck, settings

# A test function is a kind of pipeline; there are five.
for name, n_examples in (("few", 4), ("many", 80)):
    settings.register_profile(
        name,
        max_examples=n_examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
settings.load_profile(os.environ.get("SKLEXPLAIN_FUZZ", "few"))
