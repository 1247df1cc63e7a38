"""What the settings point at, looked at before the start: clock, key files, addresses, database, TLS."""

import os
import sqlite3
import ssl
import stat
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from attrs import frozen
from cryptography import x509

from adapters.store import schema
from adapters.webhook import is_outside
from adapters.wechat import v3_wire
from adapters.wechat.merchant import CERTIFICATE_FILE, PRIVATE_KEY_FILE, PUBLIC_KEY_FILE
from adapters.wechat.notify import PATH as NOTIFY_PATH
from entrypoints.faults import Fault
from entrypoints.readers import OFFICIAL

SOON = timedelta(days=30)
YEAR_MIN = 2024  # a machine that has lost its clock is back in 1970 or in the year it was built
KEY_BITS_MIN = 2048  # v3.md section 1
PKCS12_FILE = "apiclient_cert.p12"  # comes with the certificate; holds the private key under the mch_id
SQLITE_HEAD = b"SQLite format 3\0"
READ_BY_OTHERS, WRITTEN_BY_OTHERS = 0o077, 0o022

CLOCK, CERTS_DIR, DATABASE = "system clock", "WECHAT_PAY_CERTS_DIR", "MINITILL_DATABASE"
NOTIFY_URL, TLS_CERT, TLS_KEY = "WECHAT_PAY_NOTIFY_URL", "MINITILL_TLS_CERT", "MINITILL_TLS_KEY"
RUN_NTP = "let NTP set the clock, for example: timedatectl set-ntp true"
RENEW = "make a new certificate in the merchant platform's account centre, API security, and put it here"


@frozen(kw_only=True)
class Subject:
    """What the checks look at: places and addresses, no secret. `mounted` are (variable, file)."""

    certs_dir: Path
    database: Path | None
    tls_cert: str
    tls_key: str
    notify_url: str
    base_url: str
    public_key_id: str
    mounted: tuple[tuple[str, Path], ...]
    now: datetime


@frozen
class Look:
    """What a check saw; nothing found and nothing wrong: there was nothing to look at."""

    found: str = ""
    faults: tuple[Fault, ...] = ()
    warnings: tuple[Fault, ...] = ()


Check = Callable[[Subject], Look]


def looks(subject: Subject) -> Mapping[str, Look]:
    """Every check's look, by the check's name. Nothing is changed anywhere."""
    return {name: check(subject) for name, check in CHECKS}


# -- the checks ----------------------------------------------------------------------------------


def the_clock(subject: Subject) -> Look:
    """A rough look; the exact one needs WeChat (R5)."""
    told = f"{subject.now:%Y-%m-%d %H:%M} UTC"
    if subject.now.year < YEAR_MIN:
        return Look(faults=(Fault(CLOCK, f"says {told}, which is long past", RUN_NTP),))
    certificate = _certificate(subject.certs_dir)
    if certificate and certificate.effective_at and subject.now < certificate.effective_at:
        problem = f"says {told}, and {CERTIFICATE_FILE} is good from {certificate.effective_at:%Y-%m-%d}"
        return Look(faults=(Fault(CLOCK, problem, RUN_NTP),))
    return Look(told)


def the_merchant_certificate(subject: Subject) -> Look:
    """Its last day: WeChat refuses the signatures of an expired one."""
    certificate = _certificate(subject.certs_dir)
    if certificate is None or certificate.expires_at is None:
        return Look()
    ends = f"{CERTIFICATE_FILE} ends on {certificate.expires_at:%Y-%m-%d}"
    if certificate.expired(subject.now):
        ended = f"{CERTIFICATE_FILE} ended on {certificate.expires_at:%Y-%m-%d}"
        return Look(faults=(Fault(CERTS_DIR, ended, RENEW),))
    if certificate.expires_at - subject.now <= SOON:
        return Look(warnings=(Fault(CERTS_DIR, f"{ends}, in less than 30 days", RENEW),))
    days = (certificate.expires_at - subject.now).days
    return Look(f"{ends}, in {days} days; serial {certificate.serial}")


def the_private_key(subject: Subject) -> Look:
    """Whoever can read it can pay refunds out; whether it fits the certificate is Merchant's to say (R2)."""
    path = subject.certs_dir / PRIVATE_KEY_FILE
    faults = list(used_by_others(CERTS_DIR, path))
    try:
        bits = v3_wire.load_private_key(path.read_bytes()).key_size
    except (OSError, ValueError):
        return Look(faults=tuple(faults))
    if bits < KEY_BITS_MIN:
        faults.append(Fault(CERTS_DIR, f"{path} has {bits} bits, WeChat's keys have {KEY_BITS_MIN}", RENEW))
    return Look("" if faults else f"RSA {bits}, mode {_mode(path):o}", tuple(faults))


def the_public_key(subject: Subject) -> Look:
    """pub_key.pem is WeChat's, not the merchant's own, and nobody else can change it."""
    path = subject.certs_dir / PUBLIC_KEY_FILE
    try:
        key = v3_wire.load_public_key(path.read_bytes())
    except (OSError, ValueError):
        return Look()
    if not subject.public_key_id:
        remedy = "set it to the id that stands beside the key in the merchant platform"
        problem = f"is not set, so {PUBLIC_KEY_FILE} is not used"
        return Look(warnings=(Fault("WECHAT_PAY_PUBLIC_KEY_ID", problem, remedy),))
    certificate = _certificate(subject.certs_dir)
    if certificate and certificate.public_key == key:
        remedy = "download the WeChat Pay public key (微信支付公钥) in the merchant platform"
        return Look(faults=(Fault(CERTS_DIR, f"{PUBLIC_KEY_FILE} is the merchant's own key", remedy),))
    if _mode(path) & WRITTEN_BY_OTHERS:
        problem = f"{path} can be changed by others: whoever does can forge payments"
        return Look(warnings=(Fault(CERTS_DIR, problem, f"chmod 644 {path}"),))
    return Look(f"RSA {key.key_size}, {subject.public_key_id}")


def the_other_secret_files(subject: Subject) -> Look:
    """Files that hold secrets and that others can read; containers mount some so, so it only warns."""
    held = [(CERTS_DIR, subject.certs_dir / PKCS12_FILE), *subject.mounted]
    if subject.tls_key:
        held.append((TLS_KEY, Path(subject.tls_key)))
    open_ones = [fault for name, path in held for fault in used_by_others(name, path)]
    there = sum(path.exists() for _, path in held)
    return Look(f"{there} closed to others" if there and not open_ones else "", warnings=tuple(open_ones))


def the_notify_url(subject: Subject) -> Look:
    """Beyond its form, which Merchant judges: what would keep WeChat's calls from arriving (R21)."""
    try:
        parts = urlsplit(subject.notify_url)
        host = parts.hostname or ""
    except ValueError:
        return Look()
    if not host:
        return Look()
    warnings = []
    if parts.path != NOTIFY_PATH:
        remedy = f"end it with {NOTIFY_PATH}, or let the proxy rewrite the path"
        warnings.append(Fault(NOTIFY_URL, "has another path than minitill answers at", remedy))
    if subject.base_url == OFFICIAL:
        if parts.scheme != "https":
            warnings.append(Fault(NOTIFY_URL, "is not https", "use https, as WeChat asks"))
        if _is_private(host):
            warnings.append(
                Fault(NOTIFY_URL, "is no public address: WeChat can't call it", "use a public host name")
            )
    return Look("" if warnings else f"{parts.scheme}://{host}{parts.path}", warnings=tuple(warnings))


def the_database(subject: Subject) -> Look:
    """Its folder can be written, and the file, if there is one, is a minitill's of a known age."""
    path = subject.database
    if path is None:
        return Look()
    problem, remedy = _place_problem(path)
    if problem:
        return Look(faults=(Fault(DATABASE, problem, remedy),))
    return _inside(path) if path.exists() else Look(f"{path} will be made")


def the_tls_files(subject: Subject) -> Look:
    """A certificate and its key, to serve https without a proxy."""
    if not (subject.tls_cert and subject.tls_key):
        return Look()
    try:
        # A key under a password is no key to us: never ask for one at a terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(subject.tls_cert, subject.tls_key, "")
        last = x509.load_pem_x509_certificate(Path(subject.tls_cert).read_bytes()).not_valid_after_utc
    except (ssl.SSLError, ValueError):
        problem = "and MINITILL_TLS_KEY are no PEM certificate and unencrypted key that belong together"
        return Look(faults=(Fault(TLS_CERT, problem, "name the chain and its own key"),))
    except OSError as error:
        problem = f"or MINITILL_TLS_KEY can't be read ({error.strerror})"
        return Look(faults=(Fault(TLS_CERT, problem, "check both paths and their rights"),))
    if last <= subject.now:
        return Look(faults=(Fault(TLS_CERT, f"the certificate ended on {last:%Y-%m-%d}", "renew it"),))
    if last - subject.now <= SOON / 3:  # those of Let's Encrypt are renewed 30 days before their end
        return Look(warnings=(Fault(TLS_CERT, f"the certificate ends on {last:%Y-%m-%d}", "renew it"),))
    return Look(f"the certificate ends on {last:%Y-%m-%d}")


CHECKS: Sequence[tuple[str, Check]] = (
    ("clock", the_clock),
    ("merchant certificate", the_merchant_certificate),
    ("merchant private key", the_private_key),
    ("WeChat Pay public key file", the_public_key),
    ("other secret files", the_other_secret_files),
    ("notify_url", the_notify_url),
    ("database", the_database),
    ("TLS files", the_tls_files),
)


def used_by_others(name: str, path: Path) -> Sequence[Fault]:
    """The fault of a file with secrets in it that others than its owner can use; none if there is no file."""
    mode = _mode(path)
    if not mode & READ_BY_OTHERS:
        return ()
    return (Fault(name, f"{path} can be used by others than its owner (mode {mode:o})", f"chmod 600 {path}"),)


# -- inside --------------------------------------------------------------------------------------


def _certificate(folder: Path) -> v3_wire.PlatformKey | None:
    """The merchant's; None when it is absent or no certificate, which Merchant tells."""
    try:
        return v3_wire.load_certificate((folder / CERTIFICATE_FILE).read_bytes())
    except (OSError, ValueError):
        return None


def _mode(path: Path) -> int:
    """The rights of a file; 0 where there is none, or where rights are kept in another way."""
    if os.name != "posix":
        return 0
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0


def _is_private(host: str) -> bool:
    """As far as the spelling tells; a name is looked up by the doctor alone."""
    try:
        return not is_outside(str(ip_address(host)))
    except ValueError:
        name = host.rstrip(".").lower()
        return "." not in name or name.endswith((".localhost", ".local", ".internal"))


def _place_problem(path: Path) -> tuple[str, str]:
    """Why SQLite could not work there, and the remedy; empty when it can."""
    folder = path.absolute().parent
    if not folder.is_dir():
        return f"the folder {folder} does not exist", f"mkdir -p {folder}"
    if not os.access(folder, os.W_OK | os.X_OK):
        problem = f"the folder {folder} can't be written, and SQLite keeps files beside its own"
        return problem, "give the folder to the service's user"
    if path.exists() and not path.is_file():
        return f"{path} is no file", "name a file"
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        return f"{path} can't be read and written", "give the file to the service's user"
    return "", ""


def _inside(path: Path) -> Look:
    """Whose database it is. Read without leaving a trace."""
    with path.open("rb") as file:
        head = file.read(len(SQLITE_HEAD))
    if head and head != SQLITE_HEAD:
        return Look(faults=(Fault(DATABASE, f"{path} is no SQLite database", "name another file"),))
    # While no log lies beside it the file is whole, and may be read without making one.
    whole = not path.with_name(path.name + "-wal").exists()
    address = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if whole else ''}"
    try:
        db = sqlite3.connect(address, uri=True, timeout=1)
        try:
            return _schema(path, db)
        finally:
            db.close()
    except sqlite3.Error as error:
        remedy = "restore a backup, or name another file"
        return Look(faults=(Fault(DATABASE, f"{path} can't be read ({type(error).__name__})", remedy),))


def _schema(path: Path, db: sqlite3.Connection) -> Look:
    tables = {str(row[0]) for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return Look(f"{path} is empty and will be filled")
    columns = {str(row[1]) for row in db.execute("PRAGMA table_info(migrations)")}
    if not {"number", "name", "applied_at"} <= columns:
        return Look(faults=(Fault(DATABASE, f"{path} is another program's", "name another file"),))
    try:
        wanted = schema.missing([int(row[0]) for row in db.execute(schema.APPLIED)], migrate=True)
    except schema.SchemaTooNew as error:
        problem, _, remedy = str(error).partition(": ")
        return Look(faults=(Fault(DATABASE, problem, remedy),))
    return Look(f"{path}" + (f", {len(wanted)} migration(s) to come" if wanted else ", up to date"))
