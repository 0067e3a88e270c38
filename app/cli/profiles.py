"""Which server a command speaks to, and with which key: profiles in a file that only its owner reads."""

from __future__ import annotations

import configparser
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from app.errors import ConfigError

USUAL_URL = "http://127.0.0.1:3000"
_OF_ALL = "mini-s3"
"""The section that is no profile."""


@dataclass(frozen=True, slots=True)
class Server:
    url: str
    access_key: str = ""
    secret_key: str = field(default="", repr=False)

    @property
    def keys(self) -> tuple[str, str]:
        return self.access_key, self.secret_key


def usual_path() -> Path:
    """Below XDG_CONFIG_HOME (XDG Base Directory Specification)."""
    home = os.environ.get("XDG_CONFIG_HOME", "")
    root = Path(home) if Path(home).is_absolute() else Path.home() / ".config"
    return root / "mini-s3" / "profiles.ini"


class Profiles:
    """Servers by name, one of which is used where none is named. Raises ConfigError where the file can't be read,
    or is not to be read by others too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._parser = configparser.ConfigParser(interpolation=None)
        try:
            with path.open(encoding="utf-8") as file:
                if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                    raise ConfigError(f"Others can read the keys in {path}. Let only yourself: chmod 600 {path}")
                self._parser.read_file(file)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, configparser.Error) as error:
            raise ConfigError(f"{path} can't be read: {error}. Mend it, or make profiles anew.") from error

    @property
    def current(self) -> str | None:
        return self._parser.get(_OF_ALL, "current", fallback=None)

    @property
    def servers(self) -> dict[str, Server]:
        return {name: self[name] for name in self._parser.sections() if name != _OF_ALL}

    def __getitem__(self, name: str) -> Server:
        if name == _OF_ALL or name not in self._parser:
            known = ", ".join(sorted(set(self._parser.sections()) - {_OF_ALL})) or "none yet"
            raise ConfigError(f"There is no profile {name!r}. There are: {known}; `mini-s3 config set` makes one.")
        section = self._parser[name]
        return Server(section.get("url", USUAL_URL), section.get("access_key", ""), section.get("secret_key", ""))

    def set(self, name: str, server: Server) -> None:
        """The first one becomes the one that is used."""
        if name in (_OF_ALL, self._parser.default_section) or not name.isprintable() or set(name) & set("[]"):
            raise ConfigError(f"{name!r} can't name a profile: choose another name.")
        keys = {"access_key": server.access_key, "secret_key": server.secret_key} if server.access_key else {}
        self._parser[name] = {"url": server.url, **keys}
        if self.current is None:
            self._parser[_OF_ALL] = {"current": name}

    def use(self, name: str) -> None:
        _ = self[name]
        self._parser[_OF_ALL] = {"current": name}

    def remove(self, name: str) -> None:
        _ = self[name]
        self._parser.remove_section(name)
        if self.current == name:
            self._parser.remove_section(_OF_ALL)

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = self.path.with_suffix(f".{os.getpid()}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            self._parser.write(file)
        fresh.replace(self.path)


def chosen(url: str | None, profile: str | None, environment: Mapping[str, str]) -> Server:
    """The server that is meant: the address that is given, that of the profile that is given, that in the
    environment, that of the profile there or in use, or the usual one on this machine.

    A key of a profile goes to that profile's server, or where the profile is named; one in the environment to no
    server of a profile. Raises ConfigError.
    """
    from_environment = (environment.get("MINI_S3_ACCESS_KEY", ""), environment.get("MINI_S3_SECRET_KEY", ""))
    if profile is None and (given := url or environment.get("MINI_S3_URL")):
        return Server(given, *from_environment)
    profiles = Profiles(usual_path())
    name = profile or environment.get("MINI_S3_PROFILE") or profiles.current
    if name is None:
        return Server(USUAL_URL, *from_environment)
    server = profiles[name]
    return Server(url, *server.keys) if url else server
