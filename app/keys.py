"""Who may use the service, and how much: API keys and rate limits, free of HTTP.

Only SHA-256 digests of keys are ever held. A key is 256 random bits, so a plain digest cannot be searched for, and
needs neither salt nor a slow hash.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import math
import re
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from limits import RateLimitItem, parse_many
from limits.aio.storage import Storage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.errors import StorageError
from limits.storage import storage_from_string

from app.errors import KeysInvalid

ENTRY = re.compile(r"([A-Za-z0-9._-]{1,64}):([0-9A-Fa-f]{64})")
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
REREAD_SECONDS = 1.0
STORE_SECONDS = 1.0
"""How long the shared store may take to answer."""
LOCAL_SECONDS = 10.0
"""How long to count in this process after the shared store failed, before it is asked again."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A key that is let in: its name, and the SHA-256 of the key as 64 lower-case hex digits."""

    name: str
    digest: str


def make_key(name: str) -> tuple[str, str]:
    """A new key, and the `name:sha256` line to store in its place.

    Raises:
        KeysInvalid: the name is not 1 to 64 letters, digits, dots, dashes and underscores.
    """
    if not NAME.fullmatch(name):
        raise KeysInvalid("a name has 1 to 64 letters, digits, dots, dashes or underscores")
    key = f"lk_{secrets.token_urlsafe(32)}"
    return key, f"{name}:{_digest(key)}"


def read_entries(lines: Iterable[str], where: str = "entry") -> tuple[list[Entry], list[str]]:
    """Read `name:sha256` lines; empty ones and comments with # are passed over.

    A name may have several keys, so that a new one can be handed out before the old one is taken away.

    Returns:
        The entries, and a sentence for each line that is not one.
    """
    entries: dict[str, Entry] = {}
    wrong: list[str] = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = ENTRY.fullmatch(text)
        if not match:
            wrong.append(f"{where} {number} is not name:sha256, as `python -m app key NAME` prints it")
            continue
        entry = Entry(match[1], match[2].lower())
        if entries.setdefault(entry.digest, entry) != entry:
            wrong.append(f"{where} {number} gives the key of {entries[entry.digest].name} another name")
    return list(entries.values()), wrong


class Keyring:
    """The keys that are let in.

    Args:
        entries: `name:sha256` of each.
        file: file with further ones, a line each. It is looked at again a second after the last time, when a key is
            asked about. What is no longer in it is let in no more; of a file that cannot be read, the last state holds.

    Raises:
        KeysInvalid: an entry or the file cannot be read, or there is no key at all.
    """

    def __init__(self, entries: Sequence[str], file: Path | None = None) -> None:
        self._entries, wrong = read_entries(entries)
        self._file = file
        self._content: bytes | None = None
        self._problem: str | None = None
        self._wrong: list[str] = []
        self._from_file: list[Entry] = []
        self._next_look = 0.0
        if file:
            wrong += self._read_file(file)
            self._next_look = time.monotonic() + REREAD_SECONDS
        if not wrong:
            _, wrong = read_entries(f"{entry.name}:{entry.digest}" for entry in self._all())
        if wrong:
            raise KeysInvalid(wrong[0])
        if not self._all():
            raise KeysInvalid("there is no key")

    @property
    def names(self) -> set[str]:
        """Names of the keys that are let in."""
        return {entry.name for entry in self._all()}

    def name_of(self, key: str) -> str | None:
        """The name of a key, None for a key that is not let in; takes as long for any key."""
        self._look_again()
        digest = _digest(key)
        found: str | None = None
        for entry in self._all():
            if hmac.compare_digest(entry.digest, digest):
                found = entry.name
        return found

    def _all(self) -> list[Entry]:
        return self._entries + self._from_file

    def _look_again(self) -> None:
        if self._file is None or time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + REREAD_SECONDS
        before = self._content
        wrong = self._read_file(self._file)
        problem = wrong[0] if wrong else None
        if problem and (problem != self._problem or self._content != before):
            log.error("keys file has a problem", extra={"detail": problem, "keys": len(self._from_file)})
        elif self._content != before:
            log.info("keys file was read again", extra={"keys": len(self._from_file)})
        self._problem = problem

    def _read_file(self, file: Path) -> list[str]:
        try:
            content = file.read_bytes()
        except OSError as error:
            return [f"the keys file cannot be read ({error.strerror})"]
        if content == self._content:
            return self._wrong
        self._content = content
        # A line that is wrong is left out and the others count, so that a key that was taken away is out at once.
        self._from_file, wrong = read_entries(content.decode("utf-8", "replace").splitlines(), "line")
        self._wrong = [f"of the keys file, {sentence}" for sentence in wrong]
        return self._wrong


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True)
class Allowance:
    """What a caller may still ask for, under the limit that leaves least.

    Attributes:
        granted: whether what was asked for just now is within it.
        limit: images in one window.
        window: seconds that a window lasts; it begins with the first request in it.
        remaining: images left in this window.
        reset: seconds until the next window.
    """

    granted: bool
    limit: int
    window: int
    remaining: int
    reset: int


def parse_rates(text: str) -> list[RateLimitItem]:
    """Read rate limits like `600/minute` or `30/second;50000/day`.

    Raises:
        ValueError: they cannot be read.
    """
    try:
        return parse_many(text)
    except ValueError:
        raise ValueError("must be like 600/minute, or 30/second;50000/day") from None


class RateLimiter:
    """Counts images by caller, in fixed windows.

    Args:
        rates: the limits, see `parse_rates`; all of them hold at once.
        store: `memory://` counts in this process; `redis://` and `rediss://` count for all that share the database.
            While that cannot be reached the service goes on and counts in this process.
    """

    def __init__(self, rates: str, store: str = "memory://") -> None:
        self.rates = parse_rates(rates)
        self._local = FixedWindowRateLimiter(_store("async+memory://"))
        self._shared: FixedWindowRateLimiter | None = None
        if not store.startswith("memory:"):
            shared = _store(
                f"async+{store}",
                implementation="redispy",
                key_prefix="lookalike",
                wrap_exceptions=True,
                socket_timeout=STORE_SECONDS,
                socket_connect_timeout=STORE_SECONDS,
            )
            self._shared = FixedWindowRateLimiter(shared)
        self._ask_again = 0.0

    @property
    def policy(self) -> str:
        """The limits as the field RateLimit-Policy has them: `600;w=60`."""
        return ", ".join(f"{rate.amount};w={rate.get_expiry()}" for rate in self.rates)

    async def charge(self, caller: str, images: int) -> Allowance:
        """Count images that a caller asks for, unless that would be more than it may; then nothing is counted."""
        if self._shared and time.monotonic() >= self._ask_again:
            try:
                return await self._charge(self._shared, caller, images)
            except StorageError as error:
                self._ask_again = time.monotonic() + LOCAL_SECONDS
                cause = type(error.storage_error).__qualname__
                log.warning("rate limits are counted in this process", extra={"cause": cause, "seconds": LOCAL_SECONDS})
        return await self._charge(self._local, caller, images)

    async def _charge(self, limiter: FixedWindowRateLimiter, caller: str, images: int) -> Allowance:
        for rate in self.rates:
            reset_at, _ = await limiter.get_window_stats(rate, caller)
            if reset_at > time.time() + rate.get_expiry() + 1:
                # The clock was set back: the window would end when it comes round again.
                await limiter.clear(rate, caller)
        refused = [rate for rate in self.rates if not await limiter.test(rate, caller, cost=images)]
        if not refused:
            # Between test and hit another process may have counted; then hit says no, and nothing is exceeded.
            refused = [rate for rate in self.rates if not await limiter.hit(rate, caller, cost=images)]
        allowances = []
        for rate in refused or self.rates:
            reset_at, remaining = await limiter.get_window_stats(rate, caller)
            reset = max(1, math.ceil(reset_at - time.time()))
            allowances.append(Allowance(not refused, rate.amount, rate.get_expiry(), max(0, remaining), reset))
        if refused:
            return max(allowances, key=lambda allowance: allowance.reset)
        return min(allowances, key=lambda allowance: allowance.remaining)


def _store(uri: str, **options: str | float | bool) -> Storage:
    store = storage_from_string(uri, **options)
    if not isinstance(store, Storage):
        raise TypeError("the store does not work with the event loop")
    return store


def network_of(address: str) -> str:
    """What counts as one caller: an IPv4 address, or the /64 that one subscriber has of IPv6."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)  # as a listener on `::` is told of it
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False))
