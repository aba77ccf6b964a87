"""The description in OpenAPI -> a page to read, without a script and without a request to anybody.

Enters: a document. Leaves: HTML. Does not know: what the paths do.
"""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

METHODS = ("get", "post")


def write_page(document: dict[str, Any]) -> str:
    """The page."""
    info = document["info"]
    parts = [
        f"<h1>{escape(info['title'])} <small>HTTP API {escape(info['version'])}</small></h1>",
        f"<p>{escape(info['description'])}",
        'Programs read <a href="/openapi.json">openapi.json</a>. <a href="/">Back to the page</a>.</p>',
    ]
    for tag in document["tags"]:
        parts.append(f"<h2>{escape(tag['name'])}</h2>")
        parts += _write_operations(document, tag["name"])
    parts.append("<h2>Messages</h2>")
    parts += [_write_schema(name, schema) for name, schema in document["components"]["schemas"].items()]
    body = "\n".join(parts)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(info["title"])}: HTTP API</title>
<link rel="icon" href="/static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/static/inkling.css">
</head>
<body class="reference">
<main>
{body}
</main>
</body>
</html>
"""


def _write_operations(document: dict[str, Any], tag: str) -> Iterator[str]:
    for path, item in document["paths"].items():
        for method in METHODS:
            operation = item.get(method, {})
            if tag in operation.get("tags", ()):
                yield _write_operation(path, method, operation, item.get("parameters", []))


def _write_operation(path: str, method: str, operation: dict[str, Any], parameters: list[dict[str, Any]]) -> str:
    parts = [
        f"<section><h3><code><b>{method.upper()}</b> {escape(path)}</code></h3>",
        f"<p>{escape(operation['summary'])}.</p>",
    ]
    if parameters:
        rows = [
            (each["name"], f"{each['in']}, {_name(each['schema'])}", each.get("description", "")) for each in parameters
        ]
        parts.append(_write_table(("parameter", "where and type", "meaning"), rows))
    if body := operation.get("requestBody"):
        parts.append(_write_table(("body", "type"), _list_contents(body["content"])))
    answers = [(code, _describe(answer)) for code, answer in operation["responses"].items()]
    parts.append(_write_table(("answer", "type"), answers))
    return "".join([*parts, "</section>"])


def _list_contents(content: dict[str, Any]) -> list[tuple[str, str]]:
    return [(kind, _name(facts.get("schema", {})) or "bytes") for kind, facts in content.items()]


def _describe(answer: dict[str, Any]) -> str:
    if "$ref" in answer:
        return "Status"
    return " or ".join(name for _, name in _list_contents(answer["content"]))


def _write_schema(name: str, schema: dict[str, Any]) -> str:
    rows = [(field, _name(facts)) for field, facts in schema.get("properties", {}).items()]
    heading = f"<h3><code>{escape(name)}</code></h3>"
    return f'<section id="{escape(name)}">{heading}{_write_table(("field", "type"), rows)}</section>'


def _write_table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    head = "".join(f"<th scope=col>{escape(each)}</th>" for each in heads)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
    return f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(heads[0])}">{table}</div>'


def _name(schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if schema.get("type") == "array":
        return f"list of {_name(schema.get('items', {})) or 'values'}"
    form = schema.get("format") or schema.get("contentEncoding") or ("digits" if "pattern" in schema else "")
    return " ".join(filter(None, (str(schema.get("type", "")), f"({form})" if form else "")))
