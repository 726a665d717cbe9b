"""The two base classes of all bodies, and the texts that several of them share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Body(BaseModel):
    """What a caller sends: exact types, no unknown field, camelCase."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, alias_generator=to_camel, validate_by_name=True, hide_input_in_errors=True
    )


class Answer(BaseModel):
    """What we answer: camelCase. A reader ignores fields it does not know, so both sides can be deployed one by one."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, validate_by_name=True, hide_input_in_errors=True
    )


class NoBody(Body):
    """A request that carries nothing: no body, or an empty object."""


InstanceId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
"""The one value that both sides share."""

Generation = Annotated[int, Field(ge=1, le=2**62)]
"""The fencing number of a hand-over: it grows with every claim of an instance."""
