"""Settings: read once, checked, frozen.

Sources, the later ones winning: defaults, environment (`MINI_S3_*`), a TOML file, flags. The
command's flags and its help are made from the fields below, so this is the one list of them.
"""

from __future__ import annotations

import base64
import binascii
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    ByteSize,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from app.errors import ConfigError
from app.types import Redundancy

Names = Annotated[tuple[str, ...], NoDecode]
"""A list that is written with commas."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]*")
"""What may stand in an Authorization header (RFC 6750, section 2.1)."""

_ACCESS_KEY = re.compile(r"[A-Za-z0-9_-]{3,128}")
_SECRET_KEY = re.compile(r"[!-~]{8,128}")
_MASTER_KEY_SIZE = 32


class Settings(BaseSettings):
    """Everything that can be set. Sizes read as `64MiB`, rates as `600/minute`, times as seconds."""

    model_config = SettingsConfigDict(env_prefix="MINI_S3_", frozen=True, extra="forbid", hide_input_in_errors=True)

    host: str = Field("127.0.0.1", description="Address to listen on")
    port: int = Field(3000, ge=0, le=65535, description="Port to listen on; 0 takes a free one")
    s3_port: int = Field(
        -1, ge=-1, le=65535, description="Port of the S3 API, as 9000; 0 takes a free one, -1 means none"
    )
    uploads_bucket: str = Field(
        "uploads",
        pattern=r"^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$",
        description="The bucket in which files of the native API are seen by S3",
    )
    s3_domain: str = Field(
        "",
        pattern=r"^([a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*)?$",
        description="The S3 API's name, if buckets may stand before it: BUCKET.s3.example.org",
    )
    region: str = Field("us-east-1", pattern=r"^[a-z0-9-]{1,32}$", description="The region that S3 clients name")
    auth: bool = Field(False, description="yes: ask every caller for a key; makes a root key where there is none")
    root_access_key: str = Field("", description="The key that may do everything; goes with its secret")
    root_secret_key: SecretStr = Field(
        SecretStr(""), description="Its secret, 8 characters or more; not as a flag, which others can see"
    )
    master_key: SecretStr = Field(
        SecretStr(""),
        description="What secrets of keys are encrypted with: 32 bytes as base64 (default: the file DATA/master.key)",
    )
    data_dir: Path = Field(Path("mini-s3-data"), description="Where the embedded database and default nodes live")
    workers: int = Field(1, ge=1, le=64, description="Gateway processes; more than one needs Redis")
    mongo_url: str = Field("", description="MongoDB replica set; without it one is started on the data directory")
    mongo_database: str = Field("mini_s3", pattern=r"^[A-Za-z0-9_-]{1,63}$", description="Database name")
    redis_url: str = Field("", description="Redis or Valkey; without it one is started if its program is found")
    nodes: Names = Field(
        (), description="Storage nodes, as paths or URLs, with commas (default DATA/nodes/node1 to node3)"
    )
    placement: Literal["round-robin", "consistent-hash"] = Field(
        "round-robin", description="Which nodes get new chunks: in turn, or by their digests (consistent-hash)"
    )
    redundancy: str = Field(
        "1", description="How new chunks are kept: 1 to 9 copies, or ec:K+M shards, each on another node"
    )
    degraded_writes: bool = Field(
        False,
        description="yes: store fewer copies or shards while too few nodes take writes; the rest is added later",
    )
    node_token: SecretStr = Field(SecretStr(""), description="The token that nodes on other machines ask for")
    node_ca: str = Field(
        "", description="Authorities to trust, beside the system's, with the certificates of nodes: a PEM file"
    )
    max_file_size: ByteSize = Field(ByteSize(1 << 40), ge=1, description="Largest file taken")
    buffer_memory: ByteSize = Field(
        ByteSize(128 << 20), ge=4 << 20, description="Memory for the bodies of all uploads of one worker"
    )
    idle_timeout: float = Field(60, gt=0, description="Seconds without a byte after which an upload is given up")
    shutdown_timeout: int = Field(30, ge=0, description="Seconds that running requests get when the server stops")
    grace: float = Field(3600, ge=0, description="Seconds that deleted bytes stay before they are collected")
    upload_expiry: float = Field(86_400, ge=0, description="Seconds without progress after which an upload is ended")
    gc_interval: float = Field(600, ge=0, description="Seconds between two collections by the server; 0 for none")
    scrub_days: float = Field(30, ge=0, description="Days in which every stored byte is read and checked; 0 for never")
    upkeep_rate: ByteSize = Field(
        ByteSize(0),
        description="Bytes a second that scrub, repair, drain and rebalance may take; 0: no limit",
    )
    rate_api: str = Field("1200/minute", description="Requests allowed to one client address")
    rate_upload: str = Field("600/minute", description="Uploads allowed to one client address")
    rate_download: str = Field("600/minute", description="Downloads allowed to one client address")
    cors_origins: Names = Field((), description="Origins that browsers may call from, with commas; * for any")
    trusted_proxies: Names = Field((), description="Addresses whose X-Forwarded-For is believed, with commas")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="debug, info, warning, error")
    log_format: str = Field("auto", pattern="^(auto|json|text)$", description="json, text, or auto: text on a terminal")

    @field_validator("nodes", "cors_origins", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("rate_api", "rate_upload", "rate_download")
    @classmethod
    def _is_rate(cls, value: str) -> str:
        amount, _, period = value.partition("/")
        if not amount.isdecimal() or int(amount) < 1 or period not in ("second", "minute", "hour", "day"):
            raise ValueError("must look like 600/minute (second, minute, hour or day)")
        return value

    @field_validator("redundancy", mode="before")
    @classmethod
    def _is_redundancy(cls, value: Any) -> str:
        return str(Redundancy.parse(str(value)))

    @field_validator("node_token")
    @classmethod
    def _is_token(cls, value: SecretStr) -> SecretStr:
        if not _TOKEN.fullmatch(value.get_secret_value()):
            raise ValueError("may consist of letters, digits and -._~+/= only")
        return value

    @field_validator("s3_port")
    @classmethod
    def _is_a_port_of_its_own(cls, value: int, info: ValidationInfo) -> int:
        if value > 0 and value == info.data.get("port"):
            raise ValueError("must be another one than --port")
        return value

    @field_validator("root_access_key")
    @classmethod
    def _is_access_key(cls, value: str) -> str:
        if value and not is_access_key(value):
            raise ValueError("must be 3 to 128 letters, digits, - and _")
        return value

    @field_validator("root_secret_key")
    @classmethod
    def _goes_with_its_key(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        secret, access_key = value.get_secret_value(), info.data.get("root_access_key")
        if secret and not is_secret_key(secret):
            raise ValueError("must be 8 to 128 printable ASCII characters without spaces")
        if access_key is not None and bool(secret) != bool(access_key):
            raise ValueError("goes with --root-access-key: set both or none")
        return value

    @field_validator("master_key")
    @classmethod
    def _is_master_key(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if text and not is_master_key(text):
            raise ValueError("must be 32 bytes as base64, as `openssl rand -base64 32` makes them")
        return value

    @field_serializer("node_token", "root_secret_key", "master_key", when_used="json")
    def _told(self, value: SecretStr) -> str:
        """Workers get their settings as JSON."""
        return value.get_secret_value()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings

    @property
    def node_urls(self) -> tuple[str, ...]:
        """Where the nodes are: URLs, or paths of directories."""
        return self.nodes or tuple(str(self.data_dir / "nodes" / f"node{number}") for number in (1, 2, 3))


def load_settings(flags: dict[str, Any], config: Path | None = None) -> Settings:
    """Settings from all sources; `flags` holds only what was given on the command line.

    Raises ConfigError, naming every bad value and where it may be set.
    """
    from_file: dict[str, Any] = {}
    if config is not None:
        try:
            from_file = tomllib.loads(config.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"The settings file {config} can't be read: {error}") from error
    try:
        return Settings(**{key.replace("-", "_"): value for key, value in from_file.items()} | flags)
    except ValidationError as error:
        lines = [f"  {_where(problem['loc'])}: {problem['msg']}" for problem in error.errors()]
        raise ConfigError("\n".join(["Some settings are wrong:", *lines])) from error


def is_access_key(text: str) -> bool:
    """Whether this may name the root key."""
    return bool(_ACCESS_KEY.fullmatch(text))


def is_secret_key(text: str) -> bool:
    """Whether this may be the root key's secret."""
    return bool(_SECRET_KEY.fullmatch(text))


def is_master_key(text: str) -> bool:
    """Whether this is base64 of 32 bytes."""
    try:
        return len(base64.b64decode(text, validate=True)) == _MASTER_KEY_SIZE
    except (binascii.Error, ValueError):
        return False


def _where(location: tuple[int | str, ...]) -> str:
    name = str(location[0])
    return f"--{name.replace('_', '-')} (or MINI_S3_{name.upper()})"
