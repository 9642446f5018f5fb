"""The plain values of `antiphon.llm.v1` (messages, tools, options, usage, cost) and their translation to protobuf.

`values` is pure; `proto` is the only module here that imports generated code.
"""
