"""How many threads the libraries may use."""

SINGLE_THREADED = {"OPENBLAS_NUM_THREADS": "1", "VECLIB_MAXIMUM_THREADS": "1"}
"""Environment in which numpy works on one thread; it is read when numpy is first imported.

Its threads spin while they wait for each other. For products as small as Mien's that makes them
slower, up to a hundred times where other programs are busy, and takes cores from Blender.
"""
