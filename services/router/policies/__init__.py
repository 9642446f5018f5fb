"""Policies judge how hard a request is; constraints and ranking are the same for all of them."""
