"""Typed clients of the Antiphon services.

    with CompletionClient("127.0.0.1:7100") as client:
        response = client.complete("How do I reset my password?")
        with client.stream("Write a haiku about rivers.") as stream:
            for text in stream.text_stream:
                print(text, end="", flush=True)

For an event loop there is the same with `Async` in front. Requests and responses are the generated messages of the
package `antiphon`; errors are `antiphon_client.errors`.
"""

from antiphon_client.cache import AsyncCacheClient, CacheClient
from antiphon_client.completion import AsyncCompletionClient, CompletionClient
from antiphon_client.errors import AntiphonError
from antiphon_client.router import AsyncRouterClient, RouterClient
from antiphon_client.sentences import SentenceSegmenter
from antiphon_client.streams import AsyncCompletionStream, CompletionStream
from antiphon_client.tls import Tls

__all__ = [
    "AntiphonError",
    "AsyncCacheClient",
    "AsyncCompletionClient",
    "AsyncCompletionStream",
    "AsyncRouterClient",
    "CacheClient",
    "CompletionClient",
    "CompletionStream",
    "RouterClient",
    "SentenceSegmenter",
    "Tls",
]
