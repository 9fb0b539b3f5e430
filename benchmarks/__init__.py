"""Side-by-side measurements, one file per question asked."""

import os

from know_thyself.compute.environment import prepare_environment

# Ray's workers run at niceness 15 otherwise, and what is measured is then what other processes leave of the machine.
os.environ.setdefault("RAY_worker_niceness", "0")
prepare_environment()
