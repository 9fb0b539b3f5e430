"""Grade the answers and label every question: `python -m jobs.label --preset world`."""

from __future__ import annotations

from jobs.launch import alone, launch

if __name__ == "__main__":
    launch("label", alone("label"))
