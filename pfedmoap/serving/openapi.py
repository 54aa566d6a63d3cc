"""The OpenAPI document of a service."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from pfedmoap.serving.service import Operation, Service

Document = Mapping[str, Any]  # JSON

ERROR = {
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
}
FAILURES = {
    "400": "the question is wrong; the message says in what",
    "401": "the token is missing or wrong",
    "408": "the body did not arrive in time",
    "413": "the body is too large",
    "415": "the body is compressed",
    "500": "the model failed",
    "503": "too many questions, or no answer in time; Retry-After says when to ask again",
}


def document(service: Service, *, token: bool) -> Document:
    """Describe a service.

    Args:
        service: What is served.
        token: Whether a bearer token is asked for.

    Returns:
        The document, as version 3.1 of OpenAPI has it.
    """
    paths: dict[str, Document] = {
        operation.path: {"post": _operation(operation)} for operation in service.operations
    }
    health = {"description": "it is running", "content": _json({"type": "object"})}
    paths["/healthz"] = {
        "get": {"summary": "Whether the server runs.", "security": [], "responses": {"200": health}}
    }
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": service.title,
            "description": service.description,
            "version": version("pfedmoap"),
        },
        "paths": paths,
    }
    if token:
        scheme = {"type": "http", "scheme": "bearer"}
        described["components"] = {"securitySchemes": {"token": scheme}}
        described["security"] = [{"token": []}]
    return described


def _operation(operation: Operation) -> Document:
    binary = {"schema": {"type": "string", "format": "binary"}}
    schema = operation.schema or binary["schema"]
    answer = {"description": "the answer", "content": {operation.gives: {"schema": schema}}}
    failures = {
        status: {"description": text, "content": _json(ERROR)} for status, text in FAILURES.items()
    }
    return {
        "summary": operation.summary,
        "requestBody": {"required": True, "content": {operation.accepts: binary}},
        "responses": {"200": answer, **failures},
    }


def _json(schema: Document) -> Document:
    return {"application/json": {"schema": schema}}
