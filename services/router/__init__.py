"""Picks the cheapest model that is good enough for a request, and keeps what became of its picks.

values       plain values: what is asked, what is decided
features     what the form of a request tells
complexity   the calibrated score of these features
policies     from features to a class of complexity: `static` (the score), `keywords` (lists of words)
constraints  which models can take a request at all
ranking      the order of those that can
router       all of it for one request
outcomes     what became of decisions: idempotent, bounded, written behind
"""
