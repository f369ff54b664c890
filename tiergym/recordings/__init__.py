"""Recordings of real kernels: their format, the recorder, and the workloads made from them."""
