"""The root key and the master key: from the settings, or from files in the data directory.

    DATA/master.key  the master key, 32 bytes as base64
    DATA/root.key    {"accessKey": …, "secretKey": …}

Both have mode 0600. They are made when a server needs them and they are not there, and are never overwritten.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import string
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from app.errors import ConfigError
from app.nodes.durable import sync_directory
from app.settings import Settings, is_access_key, is_master_key, is_secret_key

_MASTER = "master.key"
_ROOT = "root.key"
_MASTER_SIZE = 32

_ID_LETTERS = string.ascii_uppercase + string.digits
_SECRET_LETTERS = string.ascii_letters + string.digits


def new_access_key() -> str:
    """20 characters A to Z and 0 to 9, as those of AWS are."""
    return "".join(secrets.choice(_ID_LETTERS) for _ in range(20))


def new_secret() -> str:
    """40 letters and digits: 238 bits."""
    return "".join(secrets.choice(_SECRET_LETTERS) for _ in range(40))


@dataclass(frozen=True, slots=True)
class RootKey:
    access_key: str
    secret: str = field(repr=False)


def completed(settings: Settings) -> tuple[Settings, RootKey | None]:
    """The settings of a server with the master key in them, and with the root key if there is one or one is wanted;
    and that root key if it was made just now, to be shown this once. Raises ConfigError."""
    data = settings.data_dir
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not settings.master_key.get_secret_value():
            _make(data / _MASTER, base64.b64encode(secrets.token_bytes(_MASTER_SIZE)).decode())
        made = _new_root_key(data) if settings.auth and not settings.root_access_key else None
    except OSError as error:
        raise ConfigError(
            f"Keys can't be kept in {data}: {error.strerror}. Choose another folder with --data-dir (or "
            "MINI_S3_DATA_DIR), or set MINI_S3_MASTER_KEY, MINI_S3_ROOT_ACCESS_KEY and MINI_S3_ROOT_SECRET_KEY."
        ) from error
    changes: dict[str, object] = {"master_key": SecretStr(master_key(settings))}
    if not settings.root_access_key and (root := _stored_root_key(data / _ROOT)):
        changes |= {"root_access_key": root.access_key, "root_secret_key": SecretStr(root.secret)}
    return settings.model_copy(update=changes), made


def _new_root_key(data: Path) -> RootKey | None:
    """The root key that was made, or None if there was one."""
    root = RootKey(new_access_key(), new_secret())
    return root if _make(data / _ROOT, json.dumps({"accessKey": root.access_key, "secretKey": root.secret})) else None


def root_key(settings: Settings) -> RootKey | None:
    """The root key that these settings name."""
    secret = settings.root_secret_key.get_secret_value()
    return RootKey(settings.root_access_key, secret) if settings.root_access_key else None


def master_key(settings: Settings) -> str:
    """The store's master key, for a command: 32 bytes as base64. Raises ConfigError if it is not there."""
    if given := settings.master_key.get_secret_value():
        return given
    path = settings.data_dir / _MASTER
    try:
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise ConfigError(
            f"There is no master key in {settings.data_dir}; a server makes it when it starts there first. Name that "
            "server's folder with --data-dir (or MINI_S3_DATA_DIR), or the key with MINI_S3_MASTER_KEY."
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"The master key {path} can't be read: {error}") from error
    if not is_master_key(text):
        raise ConfigError(f"{path} is no master key: it must hold 32 bytes as base64. Restore it from a backup.")
    return text


def _stored_root_key(path: Path) -> RootKey | None:
    try:
        found = json.loads(path.read_bytes())
        root = RootKey(found["accessKey"], found["secretKey"])
        sound = is_access_key(root.access_key) and is_secret_key(root.secret)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"The root key {path} can't be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        raise ConfigError(
            f'{path} is no root key: it must hold {{"accessKey": …, "secretKey": …}}. Restore it, or remove it: '
            "with --auth yes the next start makes another one."
        )
    return root


def _make(path: Path, text: str) -> bool:
    """Make a file with mode 0600, whole and durably. False if it is there already: then it stays. Raises OSError."""
    if path.exists():
        return False
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        # Unlike a rename it fails where another server was faster.
        os.link(temporary, path)
        sync_directory(path.parent)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True
