"""What the models of the wire share: they are closed, and shares, bars and errors look alike everywhere."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

ErrorType = Literal[
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "not_found_error",
    "rate_limit_error",
    "server_error",
]
Share = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]

MAX_KEYS = 64
"""Keys of one object: of each unknown one more, an error would be made."""


def within(data: Any, most: int) -> Any:
    """`data` as it came, before anything in it is looked at. Raises `ValueError` for an object of more than `most` keys."""
    if isinstance(data, dict) and len(data) > most:
        raise ValueError(f"{len(data)} keys, and this object has at most {most}: leave the others out")
    return data


class Closed(BaseModel):
    """A model without unknown keys, that is not changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _has_few_keys(cls, data: Any) -> Any:
        return within(data, MAX_KEYS)


class Bar(Closed):
    """From where on a question passes: a `threshold` on p_correct, or the `target_accuracy` that a threshold must promise."""

    threshold: Probability | None = Field(None, description="p_correct from which the decision is to answer")
    target_accuracy: Share | None = Field(
        None, description="what is answered shall be right this often, as promised by the judge"
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if self.threshold is not None and self.target_accuracy is not None:
            raise ValueError("threshold and target_accuracy say the same thing twice: give one of them")
        return self

    @property
    def is_set(self) -> bool:
        """Whether either is given."""
        return self.threshold is not None or self.target_accuracy is not None


class Error(Closed):
    """What went wrong, with its remedy, in the shape of OpenAI's API."""

    message: str
    type: ErrorType
    param: str | None = None
    code: str


class ErrorResponse(Closed):
    """The body of every answer that is not a success."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": {
                        "message": "the input is empty: ask something",
                        "type": "invalid_request_error",
                        "param": "input",
                        "code": "empty_input",
                    }
                }
            ]
        }
    )

    error: Error


class Health(Closed):
    """Whether the service lives, or is ready to judge."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ready"}]})

    status: Literal["alive", "ready"]
