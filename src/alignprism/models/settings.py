"""How a model is named in a study or a judge file: files on this machine, or an endpoint; which engine runs it.

The typed form of what people write. Nothing here touches a model: `alignprism.models.engines` opens one.
"""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Part(BaseModel):
    """A section of a settings file: unknown keys and NaN are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Price(Part):
    """What tokens cost, in US dollars per million."""

    input: float = Field(default=0.0, ge=0, description="dollars per million prompt tokens")
    output: float = Field(default=0.0, ge=0, description="dollars per million answer tokens")


class EndpointSettings(Part):
    """A server that speaks the OpenAI interface (vLLM, SGLang, Ollama, llama.cpp, commercial ones)."""

    urls: list[str] = Field(
        min_length=1, description="base addresses such as http://localhost:8000/v1; load is balanced over several"
    )
    model: str = Field(min_length=1, description="the name that the server knows the model by")
    api_key_env: str | None = Field(default=None, description="environment variable that holds the key (null: none)")
    connections: int = Field(default=64, ge=1, description="most requests in flight at once, over all addresses")
    requests_per_minute: float | None = Field(default=None, gt=0, description="the provider's limit (null: none)")
    tokens_per_minute: float | None = Field(default=None, gt=0, description="the provider's limit (null: none)")
    timeout_seconds: float = Field(default=120.0, gt=0, description="for one request, its whole answer included")
    attempts: int = Field(default=6, ge=1, description="tries of one request before it is a failure")
    patience_seconds: float = Field(
        default=120.0,
        ge=0,
        description="wait this long while no address answers (a restart), without using up attempts",
    )
    price: Price | None = Field(default=None, description="for the estimate before and the cap during a run")
    extra: dict[str, Any] = Field(
        default={},
        description="sent with every request, such as {reasoning_effort: low}; null leaves a field out (such as seed); part of "
        "the answer's identity",
    )
    weights: str | None = Field(
        default=None,
        description="what the servers load, in your words (a revision, a digest): with it the addresses are no part of the "
        "model's identity, and servers may move",
    )

    @field_validator("urls")
    @classmethod
    def _addresses(cls, urls: list[str]) -> list[str]:
        for url in urls:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"{url!r} is no address; write it like http://localhost:8000/v1")
            if parts.username or parts.password or parts.query:
                raise ValueError(f"the address of {parts.hostname} holds a name, password or query; use api_key_env")
        if len(set(urls)) != len(urls):
            raise ValueError("an address is listed twice")
        return [url.rstrip("/") for url in urls]

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts that text is sent to, without ports; `allow_remote` must list those that are not this machine."""
        return tuple(dict.fromkeys(urlsplit(url).hostname or "" for url in self.urls))


class RaySettings(Part):
    """Where and with what the workers of `engine: ray` run."""

    address: str | None = Field(
        default=None,
        description="of the cluster, such as 10.0.0.1:6379; `local`: a new one on this machine; null: the one that "
        "RAY_ADDRESS names or that runs on this machine, else a new one",
    )
    workers: int | None = Field(
        default=None, ge=1, description="how many (null: one per GPU; without GPUs one per node)"
    )
    cpus: float | None = Field(default=None, gt=0, description="of each worker (null: a node's, over its workers)")
    gpus: float | None = Field(default=None, ge=0, description="of each worker (null: 1 where the cluster has any)")
    patience_seconds: float = Field(
        default=600.0, gt=0, description="wait this long for a worker to come up while none works"
    )


class ModelSettings(Part):
    """One model: files here (`source`) or a server (`endpoint`), exactly one of the two."""

    source: str | None = Field(
        default=None, description="`embedded:NAME`, a hub id, or a local folder (full model or LoRA adapter)"
    )
    adapter: str | None = Field(default=None, description="LoRA adapter on top: `embedded:NAME` or a folder")
    engine: Literal["local", "ray"] = Field(
        default="local", description="`local`: in this process; `ray`: actors over a Ray cluster (extra `ray`)"
    )
    ray: RaySettings | None = Field(default=None, description="the cluster of `engine: ray` (null: its defaults)")
    endpoint: EndpointSettings | None = Field(default=None, description="a server instead of files")
    family: str | None = Field(
        default=None, description="model family (llama, gemma, ...); null: read from the name. Kin judges are reported"
    )

    @model_validator(mode="after")
    def _one_place(self) -> ModelSettings:
        if (self.source is None) == (self.endpoint is None):
            raise ValueError("name either source (files) or endpoint (a server), not both and not neither")
        if self.endpoint is not None and (self.adapter is not None or self.engine != "local"):
            raise ValueError("adapter and engine belong to source; an endpoint runs on its own server")
        if self.ray is not None and self.engine != "ray":
            raise ValueError("ray says where `engine: ray` runs; set engine: ray, or leave it out")
        return self
