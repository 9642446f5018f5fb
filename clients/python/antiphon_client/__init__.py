"""Typed clients of the Antiphon services.

    async with AsyncCompletionClient("127.0.0.1:7100") as client:
        response = await client.complete("How do I reset my password?")
        async with client.stream("Write a haiku about rivers.") as events:
            async for event in events:
                print(event.delta.text, end="")

Requests and responses are the generated messages of the package `antiphon`; errors are `antiphon_client.errors`.
"""

from antiphon_client.cache import AsyncCacheClient
from antiphon_client.completion import AsyncCompletionClient
from antiphon_client.errors import AntiphonError
from antiphon_client.router import AsyncRouterClient

__all__ = ["AntiphonError", "AsyncCacheClient", "AsyncCompletionClient", "AsyncRouterClient"]
