"""How the time and the memory of a training step grow with its sizes."""
