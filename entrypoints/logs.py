"""How log lines look: for a person, or one JSON object a line for a machine."""

import json
import logging
import sys
from datetime import UTC, datetime


class JsonLines(logging.Formatter):
    """One JSON object a line; the moment in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class ConsoleLines(logging.Formatter):
    """One line for a person; what a caller wrote cannot begin a line of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        record.message = record.message.replace("\r", "\\r").replace("\n", "\\n")
        return super().formatMessage(record)


def malformed_requests_in_our_words(record: logging.LogRecord) -> bool:
    """aiohttp's parser logs the very bytes it refuses, and they may hold a key: leave them out."""
    record.msg, record.args, record.exc_info = "a request that is not HTTP was refused", (), None
    return True


def set_up(level: str, line_format: str) -> None:
    """Send all logging to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    if line_format == "json":
        handler.setFormatter(JsonLines())
    else:
        handler.setFormatter(ConsoleLines("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("aiohttp.server").addFilter(malformed_requests_in_our_words)
    # Each request has its own line in our words.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
