"""`GET /`: the page on which people ask; its style and scripts are files beside it, below `/page`."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

FOLDER = Path(__file__).parents[1] / "page"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""The page runs its own scripts and no other, and speaks to its own service alone."""

router = APIRouter(include_in_schema=False)
files = StaticFiles(directory=FOLDER)


@router.get("/")
async def page() -> FileResponse:
    """Return the page; it needs no key, and asks for one where questions do."""
    return FileResponse(FOLDER / "index.html", headers={"Content-Security-Policy": POLICY})
