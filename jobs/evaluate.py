"""Measure a trained judge on questions: `python -m jobs.evaluate --preset world`."""

from __future__ import annotations

from jobs.launch import alone, launch

if __name__ == "__main__":
    launch("evaluate", alone("evaluate", asks_judge=True))
