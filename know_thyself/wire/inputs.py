"""What a judge is asked about: a question, a chat that ends with one, or a list of these."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from know_thyself.wire.base import Closed

MAX_INPUTS = 128
"""Inputs in one request."""
MAX_CHARACTERS = 32_768
"""Characters of one input: its text or turns, and its context. Nothing longer is turned into tokens."""
MAX_TURNS = 512
"""Turns of one chat, and pieces of one turn."""


class TextPart(Closed):
    """A piece of a turn's text."""

    type: Literal["text"]
    text: str


class ChatMessage(Closed):
    """One turn of a chat. `developer` is another name of `system`."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(max_length=MAX_TURNS, fail_fast=True)]

    @property
    def text(self) -> str:
        """The whole text of the turn."""
        return self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)


def _has_role(item: Any) -> bool:
    return isinstance(item, ChatMessage) or (isinstance(item, dict) and "role" in item)


def _kind(value: Any) -> str | None:
    """What an input is: a list is one chat iff every item is an object with a `role`, else a batch."""
    is_chat = isinstance(value, list) and value and all(map(_has_role, value))
    return "chat" if is_chat else "batch" if isinstance(value, list) else item_kind(value)


def item_kind(value: Any) -> str | None:
    """What is no batch: a text, or a list of turns or pieces."""
    return "text" if isinstance(value, str) else "chat" if isinstance(value, list) else None


_Text = Annotated[str, Tag("text")]
_Chat = Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_TURNS, fail_fast=True), Tag("chat")]
_ItemChat = Annotated[list[ChatMessage], Field(max_length=MAX_TURNS, fail_fast=True), Tag("chat")]
Item = Annotated[_Text | _ItemChat, Discriminator(item_kind, "input_type", "give a text, or a list of turns")]
"""One input: a question, or a chat that ends with one."""
_Batch = Annotated[list[Item], Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True), Tag("batch")]
Input = Annotated[
    _Text | _Chat | _Batch, Discriminator(_kind, "input_type", "give a text, a list of turns, or a list of these")
]
