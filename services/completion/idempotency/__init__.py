"""Equal keys get equal answers: one claim per tenant and key, one answer, sent again to all who repeat it.

records  what the store keeps of a key, and what is to be done with it: plain values, the clock passed in
ports    the store as this room needs it
claims   getting the right to make a key's answer, holding it, and leaving the answer behind
keys     the keys that this process is at work on, and those who wait for their answers
"""
