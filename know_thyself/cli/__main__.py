"""`python -m know_thyself.cli`."""

from __future__ import annotations

from know_thyself.cli import main

if __name__ == "__main__":
    main()
