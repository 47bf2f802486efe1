"""What Schemathesis leaves out: texts that count as left out where the document shows a number."""

from __future__ import annotations

from typing import Any

import schemathesis

# Search fields that are empty, or the text `null`, in a form or a query string.
BLANK = (None, "", "null")
FIELDS = (
    *("limit", "offset", "score_threshold", "filter", "group_by", "crop", "expires", "signature", "vectors", "format"),
    *("facets", "total", "boost", "bury", "decay", "sort", "per_group", "pin", "fallback", "diversity", "collapse"),
    *("explain", "false_accept_rate", "label"),
)


@schemathesis.hook
def filter_case(context: schemathesis.HookContext, case: schemathesis.Case[Any]) -> bool:
    """Whether a generated request is sent."""
    given: list[Any] = [case.query]
    if case.media_type == "multipart/form-data":
        given.append(case.body)
    return not any(isinstance(each, dict) and name in each and each[name] in BLANK for each in given for name in FIELDS)
