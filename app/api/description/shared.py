"""Move parts that operations share to `components`: problem responses, and path and header parameters."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from app.api.problems import MEDIA_TYPE, problem_object
from app.problems import PROBLEMS

_REQUEST_ID = "req_06h2rkn2sn8p6q21"


def share_problems(document: dict[str, Any]) -> None:
    """Move every problem response to `components.responses` and put a reference in its place.

    The name lists the problems, such as `MessageNotFoundOrPartNotFound`. Responses of operations that require no token
    have no rate limit headers: their names begin with `Public`.
    """
    shared: dict[str, Any] = {}
    for operations in document["paths"].values():
        for operation in operations.values():
            prefix = "" if operation["security"] else "Public"
            for status, response in operation["responses"].items():
                if "x-problems" in response:
                    name = prefix + "Or".join(_capitalized(code) for code in response["x-problems"])
                    if shared.setdefault(name, response) != response:
                        raise ValueError(f"Two responses have the name {name}")
                    operation["responses"][status] = {"$ref": f"#/components/responses/{name}"}
    for response in shared.values():
        response["content"][MEDIA_TYPE]["examples"] = {code: _example(code) for code in response["x-problems"]}
    document["components"]["responses"] = dict(sorted(shared.items()))


def share_parameters(document: dict[str, Any]) -> None:
    """Move path and header parameters that several operations share to `components.parameters`."""
    lists = [
        operation["parameters"]
        for operations in document["paths"].values()
        for operation in operations.values()
        if "parameters" in operation
    ]
    uses: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for parameter in (parameter for parameters in lists for parameter in parameters):
        if parameter["in"] != "query":
            uses[_parameter_name(parameter)].append(parameter)
    shared = {name: each[0] for name, each in uses.items() if len(each) > 1 and all(item == each[0] for item in each)}
    for parameters in lists:
        parameters[:] = [
            {"$ref": f"#/components/parameters/{name}"} if (name := _parameter_name(parameter)) in shared else parameter
            for parameter in parameters
        ]
    document["components"]["parameters"] = dict(sorted(shared.items()))


def _parameter_name(parameter: dict[str, Any]) -> str:
    return _capitalized(parameter["name"].replace("-", "_")) if parameter["in"] != "query" else ""


def _example(code: str) -> dict[str, Any]:
    row = PROBLEMS[code]
    value = problem_object(row, row.title, _REQUEST_ID)
    return {"value": {**value, "mailbox_ids": []} if code == "state_expired" else value}


def _capitalized(code: str) -> str:
    return "".join(word.capitalize() for word in code.split("_"))
