"""Side-by-side measurements, one file per question asked."""

from know_thyself.compute.environment import prepare_environment

prepare_environment()
