"""Commands on prompts: `inspect-prompt`."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from know_thyself.config import WORLD
from know_thyself.errors import ConfigError
from know_thyself.types import LabelMode, PromptStyle, Question

if TYPE_CHECKING:
    from know_thyself.inspection import Inspection, Token


def inspect_prompt(
    model: Annotated[str, typer.Option(help="a folder, a hub id, or world")] = WORLD,
    style: Annotated[PromptStyle, typer.Option(help="where the judge looks")] = PromptStyle.SYSTEM,
    mode: Annotated[LabelMode, typer.Option(help="verdicts to tell apart")] = LabelMode.BINARY,
    question: Annotated[str, typer.Option(help="the question to judge")] = "What is the capital of France?",
    context: Annotated[str | None, typer.Option(help="a text that comes with the question")] = None,
    prefill: Annotated[str | None, typer.Option(help="text that opens every reply; the template's own when not given")] = None,
    revision: Annotated[str | None, typer.Option(help="revision of a hub model")] = None,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="run code that comes with the model")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Print a judge prompt token by token: the verdict position, the verdict words, where training teaches."""
    if not question.strip():
        raise ConfigError("the question is empty: give --question a text")
    from know_thyself.models import tokenizer_folder

    folder = tokenizer_folder(model, revision)
    from know_thyself import inspection
    from know_thyself.engine.chat import ChatTokenizer

    asked = Question(id="", text=question, answers=(), context=context)
    found = inspection.inspect_prompt(ChatTokenizer(folder, trust_remote_code, prefill), asked, style, mode)
    if as_json:
        print(json.dumps(dataclasses.asdict(found), indent=2))
    else:
        show(found, Console())


def show(found: Inspection, console: Console) -> None:
    """Facts, prompt and tokens: a table on a terminal, lines with tabs elsewhere."""
    for name, value in _facts(found).items():
        console.print(f"{name}: {value}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"\n{found.prompt}\n", markup=False, highlight=False, soft_wrap=True)
    if console.is_terminal:
        console.print(_table(found))
    else:
        lines = "\n".join("\t".join(row) for row in [_HEAD, *_rows(found)])
        print(lines, file=console.file)


def _facts(found: Inspection) -> dict[str, str]:
    verdicts = ", ".join(f"{word} is read at {_named(token)}" for word, token in found.verdicts.items())
    return {
        "system text": found.system,
        "thinking": found.thinking,
        "prefill": f"'{found.prefill}'" if found.prefill else "none",
        "BOS": found.bos,
        "a reply ends with": ", ".join(map(_named, found.stop)) or "what the model's generation settings say",
        "verdict position": f"{found.verdict_position}: {verdicts}",
    }


def _named(token: Token) -> str:
    return f"'{token.text}' ({token.id})"


_HEAD = ("index", "id", "token", "loss=verdict", "loss=sequence")


def _rows(found: Inspection) -> list[tuple[str, ...]]:
    """One row per token; the loss columns star the positions where the guess at the next token is taught."""
    taught = [["*" if here else "" for here in found.loss[loss]] for loss in ("verdict", "sequence")]
    return [
        (str(i), str(token.id), token.text, verdict, sequence)
        for i, (token, verdict, sequence) in enumerate(zip(found.tokens, *taught, strict=True))
    ]


def _table(found: Inspection) -> Table:
    table = Table(*_HEAD, box=SIMPLE_HEAD, caption="* the guess at the next token is taught here", caption_justify="left")
    for row in _rows(found):
        table.add_row(*map(Text, row), style="bold" if row[3] else None)
    return table
