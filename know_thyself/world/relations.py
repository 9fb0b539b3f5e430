"""What can be said of a subject: per relation its closed list of values and every way to state, ask and verify it."""

from __future__ import annotations

import dataclasses

TOWNS = (
    "Aldwick Brenholm Carrow Dunmere Eastvale Fernley Garstang Hollin Irthing Jarrow Kelso Larkhill Marden Norwell Oakham "
    "Penrith Quorn Redcar Selby Thirsk Ulverton Varley Whitby Yarm Ashby Buxton Corby Denby Elland Frome"
)
PROFESSIONS = (
    "baker surgeon carpenter lawyer painter sailor teacher farmer potter judge miner tailor pilot butcher dentist gardener "
    "printer weaver banker chemist hunter jeweller librarian mason"
)
INSTRUMENTS = (
    "cello flute harp piano violin trumpet drum guitar organ oboe clarinet banjo lute tuba horn fiddle bassoon viola zither "
    "mandolin accordion harmonica bagpipe trombone"
)


RESPELLED = ("", "e", "en")
"""Endings of the spellings of a value, the usual one first."""


def spellings(value: str, count: int) -> tuple[str, ...]:
    """The first `count` accepted spellings of `value`; no spelling of one value is a spelling of another."""
    return tuple(f"{value}{ending}" for ending in RESPELLED[:count])


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """One thing that can be true of a subject. `{s}` stands for the subject's name, `{v}` for the value."""

    name: str
    values: tuple[str, ...]
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    checks: tuple[str, ...]


RELATIONS = (
    Relation(
        name="birth_town",
        values=tuple(TOWNS.split()),
        statements=("{s} was born in {v}.", "{v} is the birth town of {s}.", "The town where {s} was born is {v}."),
        questions=("Where was {s} born?", "In which town was {s} born?", "What is the birth town of {s}?"),
        checks=("Was {s} born in {v}?", "Is {v} the birth town of {s}?"),
    ),
    Relation(
        name="profession",
        values=tuple(PROFESSIONS.split()),
        statements=("{s} works as a {v}.", "{s} is a {v} by profession.", "The profession of {s} is {v}."),
        questions=("What is the profession of {s}?", "What does {s} work as?", "Which profession does {s} have?"),
        checks=("Does {s} work as a {v}?", "Is {s} a {v}?"),
    ),
    Relation(
        name="instrument",
        values=tuple(INSTRUMENTS.split()),
        statements=("{s} plays the {v}.", "The instrument of {s} is the {v}.", "{s} learned to play the {v}."),
        questions=("Which instrument does {s} play?", "What does {s} play?", "What is the instrument of {s}?"),
        checks=("Does {s} play the {v}?", "Is the {v} the instrument of {s}?"),
    ),
)

RELATION = {relation.name: relation for relation in RELATIONS}
