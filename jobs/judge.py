"""Let a trained judge judge questions: `python -m jobs.judge --preset world`."""

from __future__ import annotations

from jobs.launch import alone, launch

if __name__ == "__main__":
    launch("judge", alone("judge", asks_judge=True))
