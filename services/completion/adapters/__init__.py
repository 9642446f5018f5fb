"""The cache and the router over gRPC, behind the protocols of `services.completion.ports`."""
