"""Import: a file of pictures or vectors into a collection, and the lines about what was left out."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from service.http.schemas.base import Texts
from service.http.schemas.fields import UNGROUPED
from service.imports.sync import MOST_REMOVED


def _boolean(value: Any) -> Any:
    if isinstance(value, str):
        if value.lower() not in ("true", "false"):
            raise ValueError("must be true or false")
        return value.lower() == "true"
    return value


Flag = Annotated[bool, BeforeValidator(_boolean)]
# `format` is what generators of OpenAPI 3.0 know, `contentMediaType` what those of 3.1 know.
File = Annotated[str, Field(json_schema_extra={"format": "binary", "contentMediaType": "application/octet-stream"})]


class ImportForm(Texts):
    """A file to import, as multipart/form-data."""

    file: File = Field(
        description="A .zip or .tar.gz of pictures, a table of them (.csv, .jsonl, .parquet) or "
        "vectors (.parquet, .npy); an archive's catalogue.csv is its table"
    )
    mode: Literal["add", "sync"] = Field(
        "add", description="`sync`: the collection becomes what the file says, and items that it lacks are removed"
    )
    dry_run: Flag = Field(False, description="Says what would happen, and changes nothing")
    max_remove_share: Annotated[float, UNGROUPED] = Field(
        MOST_REMOVED,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="A sync that would remove a larger share of the items there are is refused",
    )
