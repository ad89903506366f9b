"""Every kernel against its NumPy twin, and against what the machine can do."""
