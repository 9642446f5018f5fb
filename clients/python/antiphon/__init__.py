"""Generated protobuf messages and gRPC stubs of Antiphon; never edited by hand."""
