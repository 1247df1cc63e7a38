"""The mini-program's side of WeChat: who a payer is (miniprogram.md section 1).

The query string holds the AppSecret and the answer a session_key: neither goes
into a log line, an error or anything that is kept.
"""

import json
import logging
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from attrs import field, frozen

from adapters.wechat.client import BASE_URL as PAY_BASE_URL
from adapters.wechat.client import Client, RawAnswer
from adapters.wechat.errors import Passing
from application.login import (
    LoginBlocked,
    LoginCodeInvalid,
    LoginCodeUsed,
    LoginNoAnswer,
    LoginNotSetUp,
    LoginRefused,
    Logins,
    LoginTooOften,
)
from application.ports import Unknown
from domain.order import OPENID

log = logging.getLogger(__name__)

BASE_URL = "https://api.weixin.qq.com"
BACKUP_URL = "https://api2.weixin.qq.com"
PATH = "/sns/jscode2session"

BUSY = -1
CODE = re.compile(r"[!-~]{1,128}\Z")
RID = re.compile(r"\brid: ?([0-9A-Za-z-]{1,64})")

REFUSALS: Mapping[int, type[LoginRefused]] = {
    40029: LoginCodeInvalid,
    40163: LoginCodeUsed,
    40226: LoginBlocked,
    45011: LoginTooOften,
    40013: LoginNotSetUp,  # appid
    40125: LoginNotSetUp,  # AppSecret
    41002: LoginNotSetUp,  # no appid
    41004: LoginNotSetUp,  # no AppSecret
    41008: LoginNotSetUp,  # no code, and we never send none
}
REMEDY = "check WECHAT_PAY_APPID and WECHAT_PAY_APP_SECRET against the mini-program's console"


def addresses(pay_base_url: str) -> tuple[str, str]:
    """Where the mini-program's side answers: beside WeChat Pay's simulator, or WeChat's own two hosts."""
    return (BASE_URL, BACKUP_URL) if pay_base_url == PAY_BASE_URL else (pay_base_url, "")


@frozen(kw_only=True)
class MiniProgram(Logins):
    """code2Session for one mini-program."""

    client: Client
    appid: str
    app_secret: str = field(repr=False)

    async def openid(self, code: str) -> str:
        if not self.app_secret:
            log.error("payers can not log in: set WECHAT_PAY_APP_SECRET")
            raise LoginNotSetUp("there is no AppSecret")
        if not CODE.match(code):
            raise LoginCodeInvalid("no code of wx.login looks like that")
        query = {
            "appid": self.appid,
            "secret": self.app_secret,
            "js_code": code,
            "grant_type": "authorization_code",
        }
        answer = await self.client.repeat(lambda: self._ask(f"{PATH}?{urlencode(query)}"))
        if isinstance(answer, Unknown):
            log.warning("code2Session gave no answer: %s", answer)
            raise LoginNoAnswer(str(answer))
        return self._understood(answer)

    async def _ask(self, target: str) -> Mapping[str, Any] | Unknown:
        """One try; that WeChat is busy passes."""
        answer = await self.client.send("GET", target)
        if isinstance(answer, Unknown):
            return answer
        words = _words(answer)
        if words is None:
            return Unknown(why=f"an answer of HTTP {answer.status} that is no JSON object")
        if words.get("errcode") == BUSY:
            return Passing(why="WeChat is busy", err_code=str(BUSY))
        return words

    def _understood(self, words: Mapping[str, Any]) -> str:
        errcode, openid = words.get("errcode", 0), words.get("openid")
        if errcode == 0 and isinstance(openid, str) and OPENID.match(openid):
            return openid
        if isinstance(errcode, bool) or not isinstance(errcode, int) or errcode == 0:
            raise LoginNoAnswer("code2Session answered neither an openid nor an errcode")
        refusal = REFUSALS.get(errcode, LoginRefused)
        found = RID.search(str(words.get("errmsg", "")))
        why = f"code2Session: errcode {errcode}, rid {found[1] if found else '-'}"
        if refusal is LoginNotSetUp:
            log.error("payers can not log in: %s: %s", why, REMEDY)
        else:
            log.info("%s", why)
        raise refusal(why)


def _words(answer: RawAnswer) -> Mapping[str, Any] | None:
    """The JSON object of the body, whatever its Content-Type says."""
    try:
        words = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    return words if isinstance(words, dict) else None
