"""Breaking changes: what a client sent or read and no longer can. `python -m service.http.openapi.breaking` lists them.

The interface of the last release lies in openapi.released.json as its surface: operations, and of each what may be sent
and what comes back, field by field. A change that breaks a client must be named, by its operation, under `### Breaking`
in the changelog's unreleased part. `--release` writes the surface of this version.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from service.http.openapi.committed import document
from service.http.schemas.fields import LARGEST

Schema = Mapping[str, Any]
Fields = dict[str, dict[str, Any]]
Surface = dict[str, dict[str, Any]]

ROOT = Path(__file__).resolve().parents[3]
RELEASED, CHANGELOG = ROOT / "openapi.released.json", ROOT / "CHANGELOG.md"
DEPTH = 6  # of fields within fields; filters and metadata go no deeper
_BOUNDS = {"minimum": 1, "minLength": 1, "minItems": 1, "maximum": -1, "maxLength": -1, "maxItems": -1}
FREE = (LARGEST, -LARGEST)  # no bound: no number in JSON is beyond them
_FORMS = ("format", "pattern")


def surface(whole: Schema) -> Surface:
    """By operation id: method and path; `sent` by place and name, `read` by status: fields with types and limits."""
    found: Surface = {}
    for path, methods in whole["paths"].items():
        for method, operation in methods.items():
            sent: Fields = {}
            for parameter in operation.get("parameters", ()):
                shown = _field(whole, parameter["schema"], required=parameter.get("required", False))
                sent[f"{parameter['in']}.{parameter['name']}"] = shown
            body = operation.get("requestBody", {})
            if body:
                sent["body"] = {"required": body.get("required", False), "types": []}
            for kind, content in body.get("content", {}).items():
                sent |= _content(whole, kind, content.get("schema", {}), required=False)
            read = {
                status: {
                    name: field
                    for kind, content in response.get("content", {}).items()
                    for name, field in _content(whole, kind, content.get("schema", {}), required=True).items()
                }
                | {f"header {name}": {"required": True, "types": []} for name in response.get("headers", {})}
                for status, response in operation["responses"].items()
                if status.startswith("2")
            }
            found[operation["operationId"]] = {"at": f"{method.upper()} {path}", "sent": sent, "read": read}
    return found


def breaking(old: Surface, new: Surface) -> list[tuple[str, str]]:
    """(operation, what) of every change that breaks a client of the old surface."""
    found: list[tuple[str, str]] = []
    for name, before in old.items():
        after = new.get(name)
        if after is None:
            found.append((name, f"{before['at']} is gone"))
            continue
        if after["at"] != before["at"]:
            found.append((name, f"{before['at']} became {after['at']}"))
        found += ((name, what) for what in _sent(before["sent"], after["sent"]))
        found += ((name, what) for what in _read(before["read"], after["read"]))
    return found


def _sent(old: Fields, new: Fields) -> Iterator[str]:
    for field, before in old.items():
        after = new.get(field)
        if after is None:
            yield f"{field} may not be sent any more"
            continue
        if after["required"] and not before["required"]:
            yield f"{field} must be sent now"
        if gone := set(before["types"]) - set(after["types"]):
            yield f"{field} may not be {', '.join(sorted(gone))} any more"
        if "values" in after and (lost := set(before.get("values", ["anything"])) - set(after["values"])):
            yield f"{field} may not be {', '.join(sorted(lost))} any more"
        for form in _FORMS:
            if form in after and after[form] != before.get(form):
                yield f"{field} has {form} {after[form]}, it was {before.get(form, 'free')}"
        for bound, way in _BOUNDS.items():
            limit, was = after.get(bound), before.get(bound)
            if limit is not None and (was is None or (limit - was) * way > 0):
                yield f"{field} has {bound} {limit}, it was {'free' if was is None else was}"
    for field, after in new.items():
        # A field of something that is new itself asks nothing of whoever does not send that.
        if after["required"] and field not in old and ("." not in _parent(field) or _parent(field) in old):
            yield f"{field} must be sent now"


def _read(old: Mapping[str, Fields], new: Mapping[str, Fields]) -> Iterator[str]:
    for status, fields in old.items():
        if status not in new:
            yield f"{status} is not answered any more"
            continue
        for field, before in fields.items():
            after = new[status].get(field)
            if after is None:
                yield f"{status} has no {field} any more"
            elif before["required"] and not after["required"]:
                yield f"{status} may lack {field} now"
            elif more := set(after["types"]) - set(before["types"]):
                yield f"{status} may have {', '.join(sorted(more))} in {field} now"
            elif before.get("format") != after.get("format"):
                yield f"{status} has format {after.get('format')} in {field}, it was {before.get('format')}"


def _parent(field: str) -> str:
    return field.rpartition(".")[0].removesuffix("[]")


def _content(whole: Schema, kind: str, schema: Schema, *, required: bool) -> Fields:
    """A body of one media type as a whole, and what is in it."""
    inside = {f"{kind}{name}": field for name, field in _fields(whole, schema, "")}
    return {kind: _field(whole, schema, required=required)} | inside


def _fields(whole: Schema, schema: Schema, name: str, depth: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    """A schema and what is in it, by dotted name."""
    kinds = [kind for kind in _kinds(whole, schema) if kind.get("type") != "null"]
    # What only some alternatives need, the others do without.
    required = set[str].intersection(*(set(kind.get("required", ())) for kind in kinds)) if kinds else set()
    for kind in kinds:
        for key, each in kind.get("properties", {}).items():
            place = f"{name}.{key}"
            yield place, _field(whole, each, required=key in required)
            if depth < DEPTH:
                yield from _fields(whole, each, place, depth + 1)
        if "items" in kind and depth < DEPTH:
            yield from _fields(whole, kind["items"], f"{name}[]", depth + 1)


def _field(whole: Schema, schema: Schema, *, required: bool) -> dict[str, Any]:
    kinds = list(_kinds(whole, schema))
    types = {
        each
        for kind in kinds
        for each in (kind["type"] if isinstance(kind.get("type"), list) else [kind.get("type", "any")])
    }
    shown: dict[str, Any] = {"required": required, "types": sorted(types)}
    if kinds and all("enum" in kind or "const" in kind for kind in kinds):
        shown["values"] = sorted({str(each) for kind in kinds for each in kind.get("enum", [kind.get("const")])})
    solid = [kind for kind in kinds if kind.get("type") != "null"]
    if len(solid) == 1:
        shown |= {
            name: solid[0][name] for name in (*_BOUNDS, *_FORMS) if name in solid[0] and solid[0][name] not in FREE
        }
    return shown


def _kinds(whole: Schema, schema: Schema) -> Iterator[Schema]:
    """Without references, one for each alternative."""
    if "$ref" in schema:
        yield from _kinds(whole, whole["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
        return
    alternatives = [each for key in ("anyOf", "oneOf", "allOf") for each in schema.get(key, ())]
    for each in alternatives:
        yield from _kinds(whole, each)
    if not alternatives:
        yield schema


def named(changelog: str) -> str:
    """What the unreleased part says under `### Breaking`."""
    unreleased = changelog.partition("## [Unreleased]")[2].partition("\n## [")[0]
    return unreleased.partition("### Breaking")[2].partition("\n### ")[0]


def unnamed(changes: list[tuple[str, str]], changelog: str) -> list[tuple[str, str]]:
    """Those whose operation the changelog does not name as broken."""
    said = named(changelog)
    return [(name, what) for name, what in changes if not re.search(rf"\b{re.escape(name)}\b", said)]


def main() -> int:
    new = surface(document())
    if "--release" in sys.argv[1:]:
        RELEASED.write_bytes(orjson.dumps(new, option=orjson.OPT_SORT_KEYS) + b"\n")
        return 0
    left = unnamed(breaking(orjson.loads(RELEASED.read_bytes()), new), CHANGELOG.read_text("utf-8"))
    for name, what in left:
        sys.stderr.write(f"{name}: {what}\n")
    if left:
        sys.stderr.write(
            "clients of the last release break; name these operations under `### Breaking` in CHANGELOG.md\n"
        )
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
