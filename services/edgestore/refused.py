"""Why a request is not served."""

from __future__ import annotations

import grpc


class RefusedError(Exception):
    """Ends a request with a gRPC status and a text for its caller."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def unimplemented(text: str) -> RefusedError:
    return RefusedError(grpc.StatusCode.UNIMPLEMENTED, f"{text}; this is the embedded store, not a Qdrant server")


def invalid(text: str) -> RefusedError:
    return RefusedError(grpc.StatusCode.INVALID_ARGUMENT, f"Wrong input: {text}")


def not_found(text: str) -> RefusedError:
    return RefusedError(grpc.StatusCode.NOT_FOUND, f"Not found: {text}")
