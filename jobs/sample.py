"""Ask the model every question five times: `python -m jobs.sample --preset world`."""

from __future__ import annotations

from jobs.launch import alone, launch

if __name__ == "__main__":
    launch("sample", alone("sample"))
