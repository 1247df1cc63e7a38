"""The whole service at a port of its own, with WeChat's side played by a script."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from attrs import Factory, frozen

from application.access import ApiKey, Scope, digest_of
from application.login import LoginCodeInvalid, Logins
from entrypoints.settings import load
from entrypoints.till import Till, address_of, listen
from tests.http_till import ScriptedGateway

KEY = "mt_" + "k" * 43  # an operator's
VARIABLES = {
    "WECHAT_PAY_MCH_ID": "1900000109",
    "WECHAT_PAY_APPID": "wx1234567890abcdef",
    "WECHAT_PAY_API_KEY": "k" * 32,
    "WECHAT_PAY_NOTIFY_URL": "https://shop.example.com/api/wechat/pay/notify",
    "MINITILL_TOKEN_SECRET": "t" * 32,
    "MINITILL_LOGINS_PER_MINUTE": "100000",
    "MINITILL_CREATES_PER_MINUTE": "100000",
}


class ScriptedLogins(Logins):
    """Knows every code that is short enough to be WeChat's."""

    async def openid(self, code):
        if not 0 < len(code) <= 128:
            raise LoginCodeInvalid("no code of ours")
        return "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"


@frozen
class Served:
    """Where it is, and what it is made of."""

    url: str
    till: Till
    gateway: ScriptedGateway = Factory(ScriptedGateway)

    @property
    def calls(self):
        """The method and path of everything that the application answers to."""
        return {
            (route.method, route.resource.canonical)
            for route in self.till.runner.app.router.routes()
            if route.method != "HEAD"
        }


@asynccontextmanager
async def documented_till(folder, **variables) -> AsyncIterator[Served]:
    """Served until the block ends, with an operator's key; `variables` add to its settings."""
    settings = load({**VARIABLES, "MINITILL_DATABASE": f"sqlite:///{folder}/till.db", **variables})
    gateway = ScriptedGateway()
    with listen("127.0.0.1", 0) as door:
        till = await Till.open(settings, with_jobs=False, gateway=gateway, logins=ScriptedLogins())
        try:
            operator = ApiKey(
                id="k1", name="tests", scopes=frozenset({Scope.ADMIN}), created_at=datetime.now(UTC)
            )
            await till.store.keys.add(operator, digest_of(KEY))
            await till.start(door)
            yield Served(address_of(door), till, gateway)
        finally:
            await till.stop()
