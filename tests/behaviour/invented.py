"""Questions in HotpotQA's layout about an invented valley: each joins two paragraphs of the ten that it comes with."""

from __future__ import annotations

from typing import Any

PARAGRAPHS = {
    "Orvenne": (
        "Orvenne is the largest town of the Sallow Valley and lies where the Tessel meets the Brade. "
        "It was granted a market by Duchess Maud Alder in 1312. Its bell tower was rebuilt after the fire of 1688."
    ),
    "Tessel": (
        "The Tessel is a river of 212 kilometres that rises below Mount Carrow. "
        "It feeds the salt works of Pellam before it reaches Orvenne. Barges have gone up it since the Middle Ages."
    ),
    "Brade": (
        "The Brade is a short mountain river, known for its trout and for the floods of 1741. "
        "It drives four mills on the way from Hollin Pass to Orvenne."
    ),
    "Mount Carrow": (
        "Mount Carrow is a dormant volcano of 3,048 metres. It was first climbed by the surveyor Ines Tolland in 1857. "
        "A refuge for twenty people stands at the foot of its north face."
    ),
    "Ines Tolland": (
        "Ines Tolland (1829 - 1901) was a surveyor and painter who was born in Pellam. "
        "She mapped the Sallow Valley on foot and kept a diary of its weather for thirty years."
    ),
    "Pellam": (
        "Pellam is a village of salt workers with some nine hundred inhabitants. "
        "Its museum shows the pans in which brine was boiled until 1954, when the last pan house closed."
    ),
    "Maud Alder": (
        "Maud Alder was the duchess who ruled the Sallow Valley from 1299 to 1331. She founded the abbey of Saint Verrin. "
        "Her seal shows a heron above three waves."
    ),
    "Saint Verrin": (
        "Saint Verrin is an abbey on an island of Lake Mirren. Its library holds the Heron Psalter, written in 1320. "
        "Pilgrims come to it by boat on the first Sunday of May."
    ),
    "Lake Mirren": (
        "Lake Mirren is the deepest lake of the region, at 187 metres. "
        "A ferry named Kestrel has crossed it since 1926, and it freezes about once in forty years."
    ),
    "Kestrel (ferry)": (
        "Kestrel is a paddle ferry that was built in the yard of Joss Hartwell. "
        "She carries ninety passengers and was turned from coal to oil in 1961."
    ),
    "Joss Hartwell": (
        "Joss Hartwell (1880 - 1949) was a shipwright who had learned his trade in Orvenne. "
        "He built eleven ferries and a racing yacht, and he played the euphonium in the town band."
    ),
    "The Salt Road": (
        "The Salt Road is a novel of 1911 by Corin Vale. It tells of two sisters who carry salt from Pellam over Hollin Pass. "
        "It was made into a film twice."
    ),
    "Corin Vale": (
        "Corin Vale (1873 - 1940) was a novelist and a teacher of botany. "
        "Vale wrote seven novels, all of them set in the mountains, and a flora of the pastures of Mount Carrow."
    ),
    "Hollin Pass": (
        "Hollin Pass is a mountain pass at 1,905 metres between the Sallow Valley and the plain of Dunmere. "
        "It is closed by snow from November to April. A chapel of 1502 marks its highest point."
    ),
    "Dunmere": (
        "Dunmere is a city of 140,000 inhabitants that is known for its glass. "
        "Its university was founded in 1604 and its observatory, on a hill above the glass works, in 1877."
    ),
}

QUESTIONS = [
    ("In which village was the first person to climb Mount Carrow born?", "Pellam", ("Mount Carrow", "Ines Tolland")),
    ("Who granted a market to the town where the Tessel meets the Brade?", "Maud Alder", ("Orvenne", "Tessel")),
    ("On an island of which lake lies the abbey that Maud Alder founded?", "Lake Mirren", ("Maud Alder", "Saint Verrin")),
    ("Who built the ferry that crosses the deepest lake of the region?", "Joss Hartwell", ("Lake Mirren", "Kestrel (ferry)")),
    ("In which town did the builder of Kestrel learn his trade?", "Orvenne", ("Kestrel (ferry)", "Joss Hartwell")),
    ("Over which pass do the sisters of Corin Vale's novel of 1911 go?", "Hollin Pass", ("Corin Vale", "The Salt Road")),
    ("Which plain lies beyond the pass of The Salt Road?", "Dunmere", ("The Salt Road", "Hollin Pass")),
    ("How high is the volcano below which the Tessel rises?", "3,048 metres", ("Tessel", "Mount Carrow")),
    ("What bird is on the seal of the founder of Saint Verrin?", "a heron", ("Saint Verrin", "Maud Alder")),
    ("How long is the river that feeds the salt works of Pellam?", "212 kilometres", ("Tessel", "Pellam")),
    ("What did the author of The Salt Road teach?", "botany", ("The Salt Road", "Corin Vale")),
    ("How many mills stand on the river that comes down from Hollin Pass?", "four", ("Brade", "Hollin Pass")),
    ("Were Ines Tolland and Joss Hartwell both alive in 1890?", "yes", ("Ines Tolland", "Joss Hartwell")),
    ("Is Lake Mirren deeper than Mount Carrow is high?", "no", ("Lake Mirren", "Mount Carrow")),
    ("Which is older, the university of Dunmere or the chapel of Hollin Pass?", "the chapel", ("Dunmere", "Hollin Pass")),
    ("In which year was the psalter of Maud Alder's abbey written?", "1320", ("Maud Alder", "Saint Verrin")),
    ("What instrument did the builder of the ferry of Lake Mirren play?", "euphonium", ("Kestrel (ferry)", "Joss Hartwell")),
    ("In which year did the last pan house close where Ines Tolland was born?", "1954", ("Ines Tolland", "Pellam")),
    ("For what is the city beyond Hollin Pass known?", "glass", ("Hollin Pass", "Dunmere")),
    ("After which year's fire was the bell tower of Joss Hartwell's town rebuilt?", "1688", ("Joss Hartwell", "Orvenne")),
]


def hotpot_rows() -> list[dict[str, Any]]:
    """The questions as rows of `hotpotqa/hotpot_qa`."""
    return [_row(number, *question) for number, question in enumerate(QUESTIONS)]


def _row(number: int, text: str, answer: str, supporting: tuple[str, str]) -> dict[str, Any]:
    others = [title for title in PARAGRAPHS if title not in supporting]
    titles = [others[(number + i) % len(others)] for i in range(8)]
    titles[number % 8 : number % 8] = supporting
    return {
        "id": f"invented-{number}",
        "question": text,
        "answer": answer,
        "type": "comparison" if answer in {"yes", "no"} else "bridge",
        "level": "hard",
        "supporting_facts": {"title": list(supporting), "sent_id": [0, 0]},
        "context": {"title": titles, "sentences": [[f"{part}." for part in _sentences(title)] for title in titles]},
    }


def _sentences(title: str) -> list[str]:
    return PARAGRAPHS[title].removesuffix(".").split(". ")
