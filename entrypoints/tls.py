"""Serving https without a proxy: one context, made at the start or not at all."""

import ssl

from entrypoints.faults import Fault, Faults
from entrypoints.settings import OURS, Settings

REMEDY = "name the PEM files of a certificate chain and of its unencrypted key"


def no_password() -> bytes:
    """A key that is encrypted is refused; nobody is asked for its password at a terminal."""
    return b""


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """TLS 1.2 or newer with the shop's certificate; None where a proxy does it. Raises Faults."""
    if not settings.tls_cert:
        return None
    for name, path in (("TLS_CERT", settings.tls_cert), ("TLS_KEY", settings.tls_key)):
        try:
            with open(path, "rb"):  # noqa: PTH123 - only whether it opens counts
                pass
        except OSError as error:
            problem = f"names a file that can't be read ({error.strerror})"
            raise Faults([Fault(OURS + name, problem, "check the path and its rights")]) from None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key, no_password)
    except ssl.SSLError as error:
        problem = (
            "do not belong together"
            if error.reason == "KEY_VALUES_MISMATCH"
            else "are not what they should be"
        )
        raise Faults([Fault(OURS + "TLS_CERT", f"and {OURS}TLS_KEY {problem}", REMEDY)]) from None
    return context
