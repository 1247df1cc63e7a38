"""How the text of a variable becomes a value; each reader raises Unfit for what will not do."""

from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from urllib.parse import urlsplit

OFFICIAL = "https://api.mch.weixin.qq.com"
SECRET_BYTES_MIN = 32  # of HMAC-SHA256's key, RFC 7518 section 3.2


class Unfit(Exception):
    """A value that will not do: (problem, remedy)."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.problem, self.remedy = problem, remedy


def text(value: str) -> str:
    return value


def one_of(*choices: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        for choice in choices:
            if value.casefold() == choice.casefold():
                return choice
        raise Unfit("is none of the known values", f"use one of: {', '.join(choices)}")

    return read


def whole(low: int, high: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        if not (value.isascii() and value.isdigit() and low <= int(value) <= high):
            raise Unfit("is not a whole number in range", f"use a number from {low} to {high}")
        return int(value)

    return read


def origins(value: str) -> tuple[str, ...]:
    found = tuple(part.strip().rstrip("/") for part in value.split(",") if part.strip())
    for origin in found:
        parts = urlsplit(origin)
        if parts.scheme not in {"http", "https"} or not parts.netloc or parts.path or parts.query:
            raise Unfit("holds something that is no origin", "list origins such as https://shop.example.com")
    return found


def secrets(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def strong_secrets(value: str) -> tuple[str, ...]:
    found = secrets(value)
    if any(len(one.encode()) < SECRET_BYTES_MIN for one in found):
        raise Unfit(
            f"is shorter than {SECRET_BYTES_MIN} characters", "make one with: openssl rand -base64 32"
        )
    return found


def networks(value: str) -> tuple[IPv4Network | IPv6Network, ...]:
    try:
        return tuple(ip_network(part.strip()) for part in value.split(",") if part.strip())
    except ValueError:
        raise Unfit(
            "holds something that is no network", "list addresses or networks such as 10.0.0.0/8"
        ) from None


def yes_or_no(value: str) -> bool:
    return one_of("true", "false")(value) == "true"


def address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise Unfit("is not an http(s) address", f"use the form {OFFICIAL}")
    return value.rstrip("/")


def sqlite_or_postgres(value: str) -> str:
    if value.startswith("sqlite:///") and len(value) > len("sqlite:///") and ":memory:" not in value:
        return value
    raise Unfit(
        "is no database address this minitill knows", "use sqlite:///FILE, such as sqlite:///minitill.db"
    )
