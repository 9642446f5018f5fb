"""Antiphon beside LiteLLM's proxy, on the same upstream."""
