"""What the hot paths cost, beside a bare gRPC echo in the same run: `make bench`."""
