"""Adapters to whoever writes the answers: one protocol, one event vocabulary, one table of failures.

    protocol     ChatRequest, the events, Upstream
    factory      from the catalogue's entry to an upstream
    openai       any server that speaks OpenAI's chat completions
    offline      the labelled stand-in that needs no network
    request      our values as OpenAI's request body
    client       the HTTP client: what may leave, what is accepted
    rate_limits  headers to what is left of our rate
    sse          bytes to payloads, bounded
    chunks       payloads to events
    failures     statuses and error objects to domain errors

No error of this room holds a key, a prompt, or text that an upstream wrote.
"""
