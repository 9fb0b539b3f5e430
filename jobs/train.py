"""Train one epoch of the judgment: `python -m jobs.train --preset world`."""

from __future__ import annotations

from jobs.launch import alone, launch

if __name__ == "__main__":
    launch("train", alone("train"))
