"""Natural Questions, open (Kwiatkowski et al. 2019; Lee et al. 2019) in the hub's layout: what people asked a search engine."""

from __future__ import annotations

from know_thyself.data.hub import Source
from know_thyself.data.rows import Draft, Row


def draft(row: Row) -> Draft:
    """The parts of a question in `row`."""
    return Draft(row.get("question"), row.get("answer"))


SOURCE = Source(name="nq_open", hub="google-research-datasets/nq_open", draft=draft, subsets={"nq_open": (87_925, 3_610)})
