"""Merge a judge's adapter into its base: `python -m jobs.merge --preset world`."""

from __future__ import annotations

from jobs.launch import alone, launch

if __name__ == "__main__":
    launch("merge", alone("merge", asks_judge=True))
