"""Honest timings of minigrad against its peers; run them with ``python -m benchmarks.NAME``."""
