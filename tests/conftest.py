"""Settings of the whole suite: reproducible hypothesis runs, no window system, one torch thread per worker."""

import os

from hypothesis import settings

os.environ.setdefault("MPLBACKEND", "Agg")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# No deadline: the first example may compile. The same examples in every run; `--hypothesis-profile=explore`
# looks for new ones.
settings.register_profile("suite", derandomize=True, deadline=None, database=None)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile("suite")
