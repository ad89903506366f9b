"""One training step of a document model, minigrad against its peers.

A case is one module here.  It has a docstring, and

    draw_weights(rng)            name -> float32 array, in minigrad's layout
    draw_batches(rng, count)     what the steps read; each batch a tuple of arrays
    MAKERS                       name of a contender -> function of the weights that returns a
                                 step: a function of one batch that returns the loss when all
                                 is computed, or ImportError where its library is missing
    JAX_THREADS                  threads that suit JAX best here (measured); None for all
    FLOPS                        of the matrix products of one step; a multiply-add counts two

Each peer is written as its own users would write it at its fastest.  All contenders start
from the same weights, read the same batches and must report the same losses before anything
is timed (dropout is off for that).  PyTorch runs at 1 thread and at all of them.
"""
