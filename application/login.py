"""A payer logs in: a code of wx.login becomes an openid (miniprogram.md section 1)."""

from typing import Protocol

from domain.errors import PaymentError


class Logins(Protocol):
    """WeChat's word on who a payer is."""

    async def openid(self, code: str) -> str:
        """Whose code it is; it is spent then. Raises a LoginRefused. The session_key goes no further."""
        ...


class LoginRefused(PaymentError):
    """WeChat refused the login for a reason it does not document."""

    code = "LOGIN_REFUSED"


class LoginCodeInvalid(LoginRefused):
    """40029: wrong, expired, or of another mini-program; the client calls wx.login again."""

    code = "LOGIN_CODE_INVALID"


class LoginCodeUsed(LoginRefused):
    """40163: a code is good once; the client calls wx.login again."""

    code = "LOGIN_CODE_USED"


class LoginBlocked(LoginRefused):
    """40226: WeChat holds the payer for a high risk; nothing helps."""

    code = "LOGIN_BLOCKED"


class LoginTooOften(LoginRefused):
    """45011: this payer logs in too often; a minute later it works."""

    code = "LOGIN_TOO_OFTEN"


class LoginNotSetUp(LoginRefused):
    """The AppSecret, the appid or our token secret is missing or wrong: for the operator."""

    code = "LOGIN_NOT_SET_UP"


class LoginNoAnswer(LoginRefused):
    """WeChat is busy, silent, or says what can not be understood."""

    code = "LOGIN_NO_ANSWER"
