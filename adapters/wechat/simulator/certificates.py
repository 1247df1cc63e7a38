"""Keys and certificates that the simulator makes on the spot."""

import ipaddress
import secrets
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.x509.oid import NameOID

LIFE = timedelta(days=5 * 365)  # as WeChat's own (v3.md section 1)
KEY_BITS = 2048


def make_key() -> RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)


def private_pem(key: RSAPrivateKey) -> bytes:
    """PKCS#8, unencrypted, as `apiclient_key.pem` is."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_pem(key: RSAPrivateKey) -> bytes:
    """The public half, as `pub_key.pem` is."""
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def make_certificate(key: RSAPrivateKey, name: str, now: datetime) -> bytes:
    """A certificate in PEM whose serial has 40 hex digits, valid from a day ago for five years.

    It vouches for itself and for this machine's own names, so that one kind serves the merchant,
    the platform and the TLS listener.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    here: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
    ]
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number((1 << 158) | secrets.randbits(158))
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName(here), critical=False)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)
