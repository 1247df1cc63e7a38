"""What no log line may hold: the secrets that the tests know, and whatever looks like one."""

import logging
import re
from functools import cache

from tests import attacked_till, simulator_side, wechat_side

LOOKS_SECRET = re.compile(
    r"""-----BEGIN\ [A-Z ]*PRIVATE\ KEY
    | \bmt_[0-9A-Za-z_\-]{43}\b
    | \bwhsec_[0-9A-Za-z+/]{16,}
    | \beyJ[0-9A-Za-z_\-]{8,}\.[0-9A-Za-z_\-]{8,}\.[0-9A-Za-z_\-]{20,}
    | session_key\W{1,6}[0-9A-Za-z+/]{8,}""",
    re.VERBOSE,
)
ORDINARY = set(vars(logging.makeLogRecord({}))) | {"message", "exc_text"}
FORMAT = logging.Formatter("%(name)s %(message)s").format


def body_lines(pem: str) -> list[str]:
    """Two lines out of the middle of a private key's file: enough to know it again."""
    return [line for line in pem.splitlines() if len(line) == 64][2:4]


@cache
def told() -> tuple[str, ...]:
    """Secrets that are the same in each run."""
    keys = wechat_side.DOCUMENT["keys"].values()
    pems = [line for key in keys for line in body_lines(key.get("private_pem") or "")]
    own = (attacked_till.TOKEN_SECRET, attacked_till.OLD_SECRET, attacked_till.QUOTE_SECRET)
    return (wechat_side.API_KEY, wechat_side.API_V3_KEY, *own, *attacked_till.KEYS.values(), *pems)


@cache
def made() -> tuple[str, ...]:
    """Those of the account that the tests of this process share."""
    account = simulator_side.account()
    pem = account.file("apiclient_key.pem").read_text()
    return (account.api_key, account.apiv3_key, account.app_secret, *body_lines(pem))


def leaks(text: str) -> list[str]:
    """The secrets in a text."""
    known = told() + (made() if simulator_side.account.cache_info().currsize else ())
    found = [secret for secret in known if secret in text]
    return found + [look[0] for look in LOOKS_SECRET.finditer(text)]


class Watch:
    """Reads every line that is logged, whatever handlers there are, and remembers those with a secret."""

    def __init__(self):
        self.found = []
        self.lines = 0

    def read(self, record):
        """One record, traceback and all."""
        self.lines += 1
        more = {name: value for name, value in vars(record).items() if name not in ORDINARY}
        self.judge(f"{FORMAT(record)} {more}")

    def judge(self, text):
        """Any text that ends in a log."""
        if leaks(text):
            self.found.append(text)

    def around(self, handle):
        """`Logger.callHandlers`, watched."""

        def watched(logger, record):
            self.read(record)
            handle(logger, record)

        return watched

    def behind(self, communicate):
        """`Popen.communicate`, watched: what a process wrote to standard error is its log."""

        def watched(process, *args, **kwargs):
            out, log = communicate(process, *args, **kwargs)
            self.judge(log.decode(errors="replace") if isinstance(log, bytes) else log or "")
            return out, log

        return watched


WATCH = Watch()
