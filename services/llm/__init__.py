"""The plain values of `antiphon.llm.v1` (messages, tools, options, usage, cost), read and written.

`values` is pure; `reading`, which validates what callers send, and `writing` know the generated code.
"""
