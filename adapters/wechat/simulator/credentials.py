"""What a merchant would hold, and WeChat's own keys, made once and kept in a directory."""

import os
import re
import secrets
import string
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from attrs import field, frozen
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from dotenv import dotenv_values

from adapters.wechat import v3_wire
from adapters.wechat.simulator.book import chance
from adapters.wechat.simulator.certificates import make_certificate, make_key, private_pem, public_pem
from adapters.wechat.simulator.clock import real_time

ENV_FILE = "simulator.env"
OWN_DIRECTORY = "wechat"  # inside: what only WeChat knows
LETTERS = string.ascii_letters + string.digits
PLAIN = re.compile(r"[^\s'\"#$\\]*")  # a value that means the same to every reader of .env files

HEAD = """\
# Made by the WeChat Pay simulator. These credentials are good for it alone, and guard nothing.
"""


@frozen(kw_only=True)
class Credentials:
    """One merchant's account with the simulator, as both sides know it."""

    directory: Path
    base_url: str
    notify_url: str
    public_key_mode: bool
    mch_id: str
    appid: str
    app_secret: str = field(repr=False)
    api_key: str = field(repr=False)
    apiv3_key: str = field(repr=False)
    public_key_id: str
    merchant: v3_wire.PlatformKey  # the merchant's certificate
    platform: v3_wire.PlatformKey  # the platform certificate
    platform_key: RSAPrivateKey = field(repr=False)
    public_key: RSAPrivateKey = field(repr=False)  # the private half of pub_key.pem

    @property
    def merchant_public_key(self) -> RSAPublicKey:
        return self.merchant.public_key

    def file(self, name: str) -> Path:
        """A file that the merchant holds."""
        return self.directory / name

    def own_file(self, name: str) -> Path:
        """A file that only WeChat holds."""
        return self.directory / OWN_DIRECTORY / name


def prepare(
    directory: Path, *, base_url: str, notify_url: str, seed: int = 0, public_key_mode: bool = False
) -> Credentials:
    """Make an account in the directory, or read the one that is there.

    A second call keeps every secret and key; only the addresses and the mode are written anew.
    `seed` decides the account's numbers, never a key. Raise ValueError for a directory whose files
    do not belong together, OSError when it cannot be written.
    """
    directory = directory.resolve()
    own = directory / OWN_DIRECTORY
    own.mkdir(parents=True, exist_ok=True)
    own.chmod(0o700)
    known = {name: value or "" for name, value in dotenv_values(directory / ENV_FILE).items()}
    account = _account(known, seed)
    _make_files(directory, own)
    settings = {
        **account,
        "WECHAT_PAY_NOTIFY_URL": notify_url,
        "WECHAT_PAY_CERTS_DIR": str(directory),
        "WECHAT_PAY_BASE_URL": base_url,
    }
    _write(directory / ENV_FILE, (HEAD + _lines(settings)).encode(), 0o600)
    return Credentials(
        directory=directory,
        base_url=base_url,
        notify_url=notify_url,
        public_key_mode=public_key_mode,
        mch_id=account["WECHAT_PAY_MCH_ID"],
        appid=account["WECHAT_PAY_APPID"],
        app_secret=account["WECHAT_PAY_APP_SECRET"],
        api_key=account["WECHAT_PAY_API_KEY"],
        apiv3_key=account["WECHAT_PAY_API_V3_KEY"],
        public_key_id=account["WECHAT_PAY_PUBLIC_KEY_ID"],
        merchant=v3_wire.load_certificate((directory / "apiclient_cert.pem").read_bytes()),
        platform=v3_wire.load_certificate((directory / "platform_cert.pem").read_bytes()),
        platform_key=v3_wire.load_private_key((own / "platform_key.pem").read_bytes()),
        public_key=v3_wire.load_private_key((own / "pub_key_private.pem").read_bytes()),
    )


def _account(known: Mapping[str, str], seed: int) -> dict[str, str]:
    """What names the merchant and what it shares with WeChat; what is known stays."""
    numbers = chance(seed)
    fresh = {
        "WECHAT_PAY_MCH_ID": f"19{numbers.randrange(10**8):08}",
        "WECHAT_PAY_APPID": f"wx{numbers.getrandbits(64):016x}",
        "WECHAT_PAY_APP_SECRET": secrets.token_hex(16),
        "WECHAT_PAY_API_KEY": _letters(32),
        "WECHAT_PAY_API_V3_KEY": _letters(32),
        "WECHAT_PAY_PUBLIC_KEY_ID": f"{v3_wire.PUBLIC_KEY_PREFIX}01{numbers.randrange(10**32):032}",
    }
    return {name: known.get(name) or value for name, value in fresh.items()}


def _make_files(directory: Path, own: Path) -> None:
    now = real_time()
    _make_pair(directory / "apiclient_key.pem", directory / "apiclient_cert.pem", "Merchant", now)
    _make_pair(own / "platform_key.pem", directory / "platform_cert.pem", "Tenpay.com", now)
    _make_pair(own / "tls_key.pem", directory / "tls_cert.pem", "localhost", now)
    if not (directory / "pub_key.pem").exists():
        key = make_key()
        _write(own / "pub_key_private.pem", private_pem(key), 0o600)
        _write(directory / "pub_key.pem", public_pem(key), 0o644)


def _make_pair(key_file: Path, certificate_file: Path, name: str, now: datetime) -> None:
    """The certificate is written last, so one that is there has its key."""
    if certificate_file.exists():
        return
    key = make_key()
    _write(key_file, private_pem(key), 0o600)
    _write(certificate_file, make_certificate(key, name, now), 0o644)


def _lines(settings: Mapping[str, str]) -> str:
    return "".join(f"{name}={_quoted(value)}\n" for name, value in settings.items())


def _quoted(value: str) -> str:
    if PLAIN.fullmatch(value):
        return value
    if "'" in value or "\n" in value:
        raise ValueError(f"{value!r} cannot be written into {ENV_FILE}")
    return f"'{value}'"


def _letters(length: int) -> str:
    return "".join(secrets.choice(LETTERS) for _ in range(length))


def _write(path: Path, content: bytes, mode: int) -> None:
    """Replace the file at once, never readable by more than its mode says."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    draft.replace(path)
