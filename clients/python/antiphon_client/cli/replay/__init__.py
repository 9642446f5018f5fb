"""`antiphon replay`: what the cache makes of a recorded stream of questions."""
