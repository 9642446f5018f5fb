"""What exact search costs beside its peers, in the same run: `make bench-simcore`."""
