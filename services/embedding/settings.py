"""Settings of the embedder: variables `ANTIPHON_EMBEDDING_…`, TOML table `[embedding]`."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from services.chassis.settings import ServiceSettings, UserPath, env


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.password:
        raise ValueError("must be an http or https URL without user and password")
    return value


class EmbeddingSettings(ServiceSettings):
    """Which embedder, where its files are, and how texts are gathered into batches."""

    embedder: str = Field(
        default="minilm",
        min_length=1,
        description="`minilm` (all-MiniLM-L6-v2 on this machine), `openai` (any server with OpenAI's embeddings API), "
        "or the path of a folder with an ONNX sentence encoder and its `tokenizer.json`.",
    )
    model_dir: UserPath | None = Field(
        default=None,
        json_schema_extra=env("ANTIPHON_MODEL_DIR"),
        description="Folder in which `antiphon model get` keeps weights. "
        "Unset: `antiphon/models` in the user's cache folder.",
    )
    batch_size: int = Field(default=32, ge=1, le=2048, description="Texts that one call of the embedder takes at most.")
    batch_delay: float = Field(
        default=0.001, ge=0, le=1, description="Seconds that a text waits at most for others to share a batch with."
    )
    batch_characters: int = Field(
        default=1_000,
        ge=1,
        le=16_777_216,
        description="Characters that one call of the embedder takes at most; a longer text is a batch of its own.",
    )
    max_batches: int = Field(default=8, ge=1, le=1024, description="Calls of the embedder that run at once.")
    max_waiting: int = Field(
        default=1024,
        ge=1,
        le=1_000_000,
        description="Texts that may wait or be embedded at once; more are refused, and their lookups bypass "
        "the semantic tier.",
    )
    threads: int = Field(default=1, ge=1, le=256, description="Threads of one local forward pass.")
    window_pieces: int | None = Field(
        default=None,
        ge=8,
        le=8192,
        description="Word pieces that a local encoder reads at once, its special tokens included; part of the "
        "embedder's identity. Unset: 256 for minilm, otherwise what the folder says.",
    )
    max_windows: int = Field(
        default=20,
        ge=1,
        le=1000,
        description="Windows of a text that are embedded locally; a longer text is only found by its exact words.",
    )
    dim: int | None = Field(
        default=None,
        ge=1,
        le=16_384,
        description="Length of the vectors. Needed for a remote model that is not OpenAI's own; where it differs from "
        "such a model's own length, the server is asked to shorten. Local encoders know theirs.",
    )
    openai_model: str = Field(
        default="text-embedding-3-small", min_length=1, description="Name of the remote embedding model."
    )
    openai_base_url: Annotated[str, AfterValidator(_http_url)] | None = Field(
        default=None, description="Base URL of the remote API. Unset: `OPENAI_BASE_URL`, else OpenAI's own."
    )
    openai_api_key_env: str = Field(
        default="OPENAI_API_KEY",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Name of the environment variable that holds the remote API's key.",
    )
    openai_timeout: float = Field(default=10.0, gt=0, le=600, description="Seconds that one remote call may take.")
    openai_max_bytes: int = Field(
        default=24_000,
        ge=1,
        le=16_777_216,
        description="UTF-8 bytes of a text that is sent to the remote model; a longer one is only found by its "
        "exact words. For a server that cuts long texts silently: at most twice its model's token limit.",
    )
