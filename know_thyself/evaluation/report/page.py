"""The frame of every page: self-contained, with one script of our own at most, and without the network."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup


def render_page(template: str, *, script: str | None, **values: Any) -> str:
    """The page of `template`, a file beside this one; all text among `values` is escaped, markup is not.

    `script` is the one script that the page's policy lets run.
    """
    environment = Environment(
        loader=FunctionLoader(read_text), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    digest = base64.b64encode(hashlib.sha256((script or "").encode()).digest()).decode()
    return environment.get_template(template).render(script=script and Markup(script), script_digest=digest, **values)


def read_text(name: str) -> str:
    """The text of a file beside this one."""
    return resources.files(__package__ or "").joinpath(name).read_text(encoding="utf-8")
