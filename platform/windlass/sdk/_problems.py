"""Converts pydantic errors of request bodies into the errors that the server would return."""

from pydantic import ValidationError

from windlass.domain.errors import InvalidError
from windlass.wire.validation import field_problems, invalid, json_pointer


def validation_error(error: ValidationError, values: object) -> InvalidError:
    """Convert a pydantic error of a body built from ``values`` into the error that the server would return."""
    details = error.errors(include_url=False, include_input=False)
    return invalid(field_problems(details, lambda location: json_pointer(location, values)))
