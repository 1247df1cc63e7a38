"""The payer's login."""

import logging

from attrs import frozen

from adapters.http.errors import TooManyRequests
from adapters.http.routes import Call, Route, Who
from adapters.http.shapes import Login, LoginView, Success
from adapters.http.tokens import Tokens
from application import login
from application.login import Logins

log = logging.getLogger("minitill.http")

PATH = "/api/wechat/login"


@frozen(kw_only=True)
class LoginApi:
    """A code of wx.login in, a bearer token out."""

    logins: Logins
    tokens: Tokens

    def routes(self) -> tuple[Route, ...]:
        """Open to anyone: WeChat says who it is (R20)."""
        return (
            Route(
                method="POST",
                path=PATH,
                who=Who.ANYONE,
                handler=self.login,
                summary="小程序登录",
                body=Login,
                answer=Success[LoginView],
                refusals=(
                    login.LoginCodeInvalid,
                    login.LoginCodeUsed,
                    login.LoginBlocked,
                    login.LoginTooOften,
                    login.LoginNotSetUp,
                    login.LoginNoAnswer,
                    login.LoginRefused,
                    TooManyRequests,
                ),
            ),
        )

    async def login(self, call: Call[Login, None]) -> Success[LoginView]:
        """Ask WeChat whose code it is. Raises a LoginRefused."""
        if not self.tokens.secrets:
            log.error("payers can not log in: set MINITILL_TOKEN_SECRET")
            raise login.LoginNotSetUp("there is no secret to sign tokens with")
        openid = await self.logins.openid(call.body.code)
        token, expires_in = self.tokens.issue(openid)
        return Success(data=LoginView(openid=openid, token=token, expires_in=expires_in))
