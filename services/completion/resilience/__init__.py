"""What keeps answers coming while models' servers fail: pure decisions, clocks and randomness passed in.

policy          the limits on the calls of one request, which a caller may tighten
verdict         from an upstream's failure to what it says about another try
backoff         full jitter
retry_budget    10 % of an upstream's requests
breaker         per upstream and model, with one probe at a time
adaptive_limit  how many calls a model is given at once (AIMD)
admission       the queue in front of that limit: by priority, bounded in time
targets         the state of every upstream and model
plan            which model one request calls next, and when
"""
