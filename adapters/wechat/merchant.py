"""Who the merchant is, and the keys that prove it."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from attrs import field, frozen
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from adapters.wechat import v3_wire

CERTIFICATE_FILE = "apiclient_cert.pem"
PRIVATE_KEY_FILE = "apiclient_key.pem"
PUBLIC_KEY_FILE = "pub_key.pem"

NOTIFY_URL_MAX = 255  # characters, V3's limit; V2 takes one more (v2.md section 5, v3.md section 6)

MCH_ID = re.compile(r"[0-9]{8,10}")
APPID = re.compile(r"[0-9A-Za-z_\-]{1,32}")
API_KEY = re.compile(r"[0-9A-Za-z]{32}")
API_V3_KEY = re.compile(r"[!-~]{32}")
PUBLIC_KEY_ID = re.compile(r"PUB_KEY_ID_[0-9]+")

API_VERSIONS = ("v2", "v3")
SIGN_TYPES = ("MD5", "HMAC-SHA256")

Loaded = TypeVar("Loaded")


class MerchantFault(Exception):
    """One setting that will not do: which, what is wrong with it, and how to mend it. Never its value."""

    def __init__(self, variable: str, problem: str, remedy: str) -> None:
        super().__init__(f"{variable}: {problem}: {remedy}")
        self.variable = variable
        self.problem = problem
        self.remedy = remedy


class MerchantFaults(Exception):
    """Everything that is wrong with the merchant's settings, at once."""

    def __init__(self, faults: list[MerchantFault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = tuple(faults)


@frozen(kw_only=True)
class Merchant:
    """A direct merchant and its credentials, valid from birth. `load` reads and checks them."""

    mch_id: str
    appid: str
    notify_url: str
    api_version: str = "v3"  # how new orders are placed
    sign_type: str = "MD5"  # how V2's new orders are signed
    api_key: str | None = field(default=None, repr=False)
    api_v3_key: str | None = field(default=None, repr=False)
    private_key: RSAPrivateKey | None = field(default=None, repr=False)
    serial: str = ""  # of the merchant's certificate
    certificate_path: Path | None = None  # these two for V2's refunds, which want mutual TLS
    private_key_path: Path | None = None
    public_key_id: str = ""
    public_key: RSAPublicKey | None = field(default=None, repr=False)

    @classmethod
    def load(  # noqa: PLR0913 - these are what WeChat gives a merchant
        cls,
        *,
        mch_id: str,
        appid: str,
        notify_url: str,
        certs_dir: Path,
        api_version: str = "v3",
        sign_type: str = "MD5",
        api_key: str | None = None,
        api_v3_key: str | None = None,
        public_key_id: str | None = None,
    ) -> "Merchant":
        """Check the settings and read the PEM files; raise MerchantFaults with every fault (R2, R21)."""
        faults: list[MerchantFault] = []
        private_key = _read(certs_dir / PRIVATE_KEY_FILE, v3_wire.load_private_key, faults)
        certificate = _read(certs_dir / CERTIFICATE_FILE, v3_wire.load_certificate, faults)
        public_key_path = certs_dir / PUBLIC_KEY_FILE
        merchant = cls(
            mch_id=mch_id,
            appid=appid,
            notify_url=notify_url,
            api_version=api_version,
            sign_type=sign_type,
            api_key=api_key or None,
            api_v3_key=api_v3_key or None,
            private_key=private_key,
            serial=certificate.serial if certificate else "",
            certificate_path=certs_dir / CERTIFICATE_FILE if certificate else None,
            private_key_path=certs_dir / PRIVATE_KEY_FILE if private_key else None,
            public_key_id=public_key_id or "",
            public_key=_read(public_key_path, v3_wire.load_public_key, faults) if public_key_id else None,
        )
        faults += _pair(certs_dir, private_key, certificate.public_key if certificate else None)
        faults += _names(merchant)
        faults += _keys(merchant, certs_dir)
        faults += _public_key(merchant, public_key_path)
        if faults:
            raise MerchantFaults(faults)
        return merchant

    @property
    def speaks_v2(self) -> bool:
        """Whether V2's calls can be made and its notifications understood."""
        return self.api_key is not None

    @property
    def speaks_v3(self) -> bool:
        """Whether V3's calls can be made and its notifications understood."""
        return self.private_key is not None and bool(self.serial) and self.api_v3_key is not None

    @property
    def certificate(self) -> tuple[Path, Path] | None:
        """The certificate's and the key's files, for mutual TLS (v2.md section 1)."""
        if self.certificate_path is None or self.private_key_path is None:
            return None
        return self.certificate_path, self.private_key_path

    @property
    def v2_key(self) -> str:
        """The V2 API key; raise MerchantFault if there is none."""
        if self.api_key is None:
            raise _no_api_key()
        return self.api_key

    @property
    def v3_key(self) -> str:
        """The APIv3 key; raise MerchantFault if there is none."""
        if self.api_v3_key is None:
            raise _no_api_v3_key()
        return self.api_v3_key

    @property
    def signing_key(self) -> RSAPrivateKey:
        """The merchant's private key; raise MerchantFault if there is none."""
        if self.private_key is None:
            raise MerchantFault("WECHAT_PAY_CERTS_DIR", f"{PRIVATE_KEY_FILE} is missing", DOWNLOAD)
        return self.private_key


# -- the checks: each returns what it found wrong ------------------------------------------------

DOWNLOAD = "download both apiclient_*.pem from the merchant platform's account centre, API security"
SET_KEY = "set it in the merchant platform's account centre, API security, and write the same here"


def _no_api_key() -> MerchantFault:
    return MerchantFault("WECHAT_PAY_API_KEY", "is missing, and V2 signs with it", SET_KEY)


def _no_api_v3_key() -> MerchantFault:
    return MerchantFault("WECHAT_PAY_API_V3_KEY", "is missing, and V3 decrypts with it", SET_KEY)


def _read(path: Path, load: Callable[[bytes], Loaded], faults: list[MerchantFault]) -> Loaded | None:
    """What the file holds; None if it is not there, or is of the wrong kind, which is noted."""
    if not path.exists():
        return None
    try:
        return load(path.read_bytes())
    except OSError as error:
        problem = f"{path} cannot be read ({error.strerror})"
        faults.append(MerchantFault("WECHAT_PAY_CERTS_DIR", problem, "let the service's user read it"))
    except ValueError as error:
        faults.append(MerchantFault("WECHAT_PAY_CERTS_DIR", f"{path} is {error}", DOWNLOAD))
    return None


def _pair(
    folder: Path, private_key: RSAPrivateKey | None, certified: RSAPublicKey | None
) -> Iterator[MerchantFault]:
    """WeChat checks signatures against the certificate: another key's are worth nothing (R2)."""
    if private_key and certified and private_key.public_key() != certified:
        problem = f"{PRIVATE_KEY_FILE} and {CERTIFICATE_FILE} do not belong together"
        yield MerchantFault("WECHAT_PAY_CERTS_DIR", problem, DOWNLOAD)
    names = (PRIVATE_KEY_FILE, CERTIFICATE_FILE)
    there = [name for name in names if (folder / name).exists()]
    if len(there) == 1:
        missing = next(name for name in names if name not in there)
        yield MerchantFault("WECHAT_PAY_CERTS_DIR", f"{folder} holds {there[0]} without {missing}", DOWNLOAD)


def _names(merchant: Merchant) -> Iterator[MerchantFault]:
    if not MCH_ID.fullmatch(merchant.mch_id):
        yield MerchantFault(
            "WECHAT_PAY_MCH_ID", "is not 8 to 10 digits", "copy it from the merchant platform"
        )
    if not APPID.fullmatch(merchant.appid):
        yield MerchantFault("WECHAT_PAY_APPID", "is not an appid", "copy it from the mini-program's settings")
    if merchant.api_version not in API_VERSIONS:
        yield MerchantFault("WECHAT_PAY_API_VERSION", "is neither v2 nor v3", "write v3, or v2")
    if merchant.sign_type not in SIGN_TYPES:
        yield MerchantFault(
            "WECHAT_PAY_SIGN_TYPE", "is neither MD5 nor HMAC-SHA256", "write HMAC-SHA256, or MD5"
        )
    problem = notify_url_problem(merchant.notify_url)
    if problem:
        remedy = "write the full public address, such as https://shop.example/api/wechat/pay/notify"
        yield MerchantFault("WECHAT_PAY_NOTIFY_URL", problem, remedy)


def notify_url_problem(url: str) -> str:
    """Why WeChat would not call this address; empty when it would (R21)."""
    if not url.isascii() or any(mark.isspace() or not mark.isprintable() for mark in url):
        return "holds a blank or a character beyond ASCII"
    if len(url) > NOTIFY_URL_MAX:
        return f"is longer than {NOTIFY_URL_MAX} characters"
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return "is not an address"
    if parts.scheme not in ("http", "https") or not host:
        return "is not a full http(s) address"
    if "?" in url or "#" in url:
        return "has a query or a fragment, which WeChat does not take"
    return "" if len(parts.path) > 1 else "has no path"


def _keys(merchant: Merchant, folder: Path) -> Iterator[MerchantFault]:
    if merchant.api_key is not None and not API_KEY.fullmatch(merchant.api_key):
        yield MerchantFault("WECHAT_PAY_API_KEY", "is not 32 letters and digits", SET_KEY)
    if merchant.api_v3_key is not None and not API_V3_KEY.fullmatch(merchant.api_v3_key):
        yield MerchantFault("WECHAT_PAY_API_V3_KEY", "is not exactly 32 bytes of ASCII", SET_KEY)
    if merchant.api_version == "v2" and merchant.api_key is None:
        yield _no_api_key()
    if merchant.api_version == "v3":
        if merchant.api_v3_key is None:
            yield _no_api_v3_key()
        if not any((folder / name).exists() for name in (PRIVATE_KEY_FILE, CERTIFICATE_FILE)):
            problem = f"{folder} holds neither {PRIVATE_KEY_FILE} nor {CERTIFICATE_FILE}"
            yield MerchantFault("WECHAT_PAY_CERTS_DIR", problem, DOWNLOAD)


def _public_key(merchant: Merchant, path: Path) -> Iterator[MerchantFault]:
    if not merchant.public_key_id:
        return
    if not PUBLIC_KEY_ID.fullmatch(merchant.public_key_id):
        problem = "is not PUB_KEY_ID_ and digits"
        yield MerchantFault("WECHAT_PAY_PUBLIC_KEY_ID", problem, "copy it from the merchant platform")
    if not path.exists():
        problem = f"names a key, and {path} is missing"
        yield MerchantFault("WECHAT_PAY_PUBLIC_KEY_ID", problem, "download the WeChat Pay public key there")
