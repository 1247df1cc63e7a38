"""How log lines look: for a person, or one JSON object a line for a machine; never with a secret in them."""

import json
import logging
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import structlog
from attrs import field, frozen
from structlog.types import EventDict, Processor

from adapters.http import trace
from entrypoints.settings import Settings

OPENID_SHOWN = 6  # letters: enough to recognise a payer one knows
SECRET_LENGTH_MIN = 8  # shorter ones would black out words
GONE = "…"

# What a secret looks like wherever it turns up, and what is left of it.
SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\Z)", re.DOTALL), "PEM…"),
    (re.compile(r"\beyJ[\w-]{5,}\.[\w-]*(?:\.[\w-]*)?"), "eyJ…"),
    (re.compile(r"\bmt_[\w-]{8,}"), "mt_…"),
    (re.compile(r"\bwhsec_[\w+/=-]{8,}"), "whsec_…"),
    (re.compile(r"(?i)\b(bearer|basic) +[\w.~+/=-]{8,}"), r"\1 …"),
    (re.compile(r"""(session_key["'\s:=]{1,5})[\w+/=-]{8,}"""), r"\1…"),
    (re.compile(rf"\b(o[\w-]{{{OPENID_SHOWN - 1}}})[\w-]{{{28 - OPENID_SHOWN}}}\b", re.ASCII), r"\1…"),
)


@frozen
class Redaction:
    """The last line of defence: what must never be printed is taken out of every value of every line."""

    never: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, never: Iterable[str]) -> "Redaction":
        """The longest first, for one may be part of another."""
        found = {one for one in never if len(one) >= SECRET_LENGTH_MIN}
        return cls(tuple(sorted(found, key=len, reverse=True)))

    def __call__(self, _logger: Any, _method: str, line: EventDict) -> EventDict:
        return {name: self.value(value) for name, value in line.items()}

    def value(self, value: Any) -> Any:
        """The value without secrets; whatever is no number is looked at as the text it will be."""
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping):
            return {self.text(str(name)): self.value(inner) for name, inner in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value(inner) for inner in value]
        return self.text(str(value))

    def text(self, text: str) -> str:
        """The text without secrets."""
        for secret in self.never:
            text = text.replace(secret, GONE)
        for shape, left in SHAPES:
            text = shape.sub(left, text)
        return text


def secrets_of(settings: Settings) -> tuple[str, ...]:
    """Every secret value the settings hold: registered at the start, never printed after."""
    merchant = settings.merchant
    given = (
        merchant.api_key,
        merchant.api_v3_key,
        settings.app_secret,
        *settings.token_secret,
        *settings.quote_secret,
        *settings.webhook_secret,
        settings.database if "@" in settings.database else "",
        settings.webhook_url if "?" in settings.webhook_url or "@" in settings.webhook_url else "",
    )
    return tuple(one for one in given if one)


def with_request_id(_logger: Any, _method: str, line: EventDict) -> EventDict:
    """Every line inside a request says of which; what another formatter left on the record is no fact."""
    line.pop("message", None)
    line.pop("asctime", None)
    request_id = trace.request_id()
    if request_id != "-":
        line.setdefault("request_id", request_id)
    return line


def as_json(_logger: Any, _method: str, line: EventDict) -> str:
    """One JSON object a line; json escapes whatever could begin another."""
    first = {"at": line.pop("at"), "level": line.pop("level"), "logger": line.pop("logger", "")}
    traceback = line.pop("exception", None)
    told = {**first, "message": line.pop("event"), **line, **({"traceback": traceback} if traceback else {})}
    text = json.dumps(told, ensure_ascii=False)
    return "".join(mark if mark.isprintable() else json.dumps(mark)[1:-1] for mark in text)


def as_console(_logger: Any, _method: str, line: EventDict) -> str:
    """One line for a person; what a caller wrote cannot begin a line of its own, nor pass for a fact."""
    at, level, logger = line.pop("at"), line.pop("level").upper(), line.pop("logger", "")
    message, traceback = line.pop("event"), line.pop("exception", None)
    facts = "".join(f" {name}={_fact(value)}" for name, value in line.items() if value != "-")
    told = f"{at} {level:<7} {logger}: {_printable(str(message))}{facts}"
    return told + "".join(f"\n    {_printable(row)}" for row in traceback.splitlines()) if traceback else told


def malformed_requests_in_our_words(record: logging.LogRecord) -> bool:
    """aiohttp's parser logs the very bytes it refuses, and they may hold a key: leave them out."""
    record.msg, record.args, record.exc_info = "a request that is not HTTP was refused", (), None
    return True


def set_up(level: str, line_format: str, never: Iterable[str] = ()) -> None:
    """Send all logging, ours and libraries', to standard error; the texts in `never` appear nowhere in it."""
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        with_request_id,
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                Redaction.of(never),
                as_json if line_format == "json" else as_console,
            ],
        )
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    unreadable = logging.getLogger("aiohttp.server")
    if malformed_requests_in_our_words not in unreadable.filters:
        unreadable.addFilter(malformed_requests_in_our_words)
    # Each request has its own line in our words.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)


def _fact(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    plain = text and not re.search(r"[\s=\"]", text)
    return _printable(text if plain else json.dumps(text, ensure_ascii=False))


def _printable(text: str) -> str:
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in text)
