"""Fitting and judging the verifier that decides whether a cached answer may be served."""
