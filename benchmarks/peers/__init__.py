"""One training step of a document model, minigrad against its peers.

A case is one module here.  It has a docstring, and

    draw_weights(rng)            name -> float32 array, in minigrad's layout
    draw_batches(rng, count)     what the steps read; each batch a tuple of arrays
    MAKERS                       name of a contender -> function of the weights that returns a
                                 step: a function of one batch that returns the loss when all
                                 is computed, or ImportError where its library is missing
    JAX_THREADS                  threads that suit the pools of XLA, TensorFlow and BLAS best here
                                 (measured for JAX); None for all
    FLOPS                        of the matrix products of one step; a multiply-add counts two

and may have

    steepened(weights)           weights whose gradients are clipped, to be checked as well
    TIMED_WITH                   settings that are off in the check and on when timed: dropout
    TURN_SECONDS                 how long a turn takes

minigrad, PyTorch and JAX stand in the cases; every other peer is one module, NAME_models.py, with
its version of all the cases that it can express.  contenders.py puts them together, work.py is what
the process of a contender holds, driver.py lets them take turns.

Each peer is written as its own users would write it at its fastest.  All contenders start from the
same weights, read the same batches and must report the same losses before anything is timed.
minigrad and PyTorch run at 1 thread and at all of them.
"""
