"""For all tests: hypothesis draws the same examples in every run, and may take its time.

Its own deadline is 0.2 s an example, which a busy machine misses now and then.
"""

import hypothesis

hypothesis.settings.register_profile(
    "stable", derandomize=True, deadline=None, database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)  # fmt: skip
hypothesis.settings.load_profile("stable")
