"""The calls about what went wrong, for the operator."""

from typing import Annotated, Any

from attrs import frozen
from msgspec import Meta, Struct

from adapters.http.life_api import beijing
from adapters.http.routes import Call, Route, Who
from adapters.http.shapes import PAGE_DEFAULT, Success, described
from adapters.http.shapes_life import Moment
from application.errors import StoreUnavailable
from application.failures import Failure, FailureBook, FailureNotFound
from application.payments import PAGE_MAX

FailureId = Annotated[str, described("故障编号", pattern="^[0-9a-zA-Z_.-]{1,128}$")]


class WhichFailures(Struct, frozen=True, kw_only=True):
    """The newest failures."""

    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX, description="条数")] = PAGE_DEFAULT


class OneFailure(Struct, frozen=True, kw_only=True):
    """Which failure."""

    failure_id: FailureId


class FailureView(Struct, frozen=True, kw_only=True):
    """One failure: what, how often, and what it means."""

    failure_id: FailureId
    kind: Annotated[str, described("来源：notify.v2、notify.v3，或 call.* 调用微信")]
    code: Annotated[str, described("未通过的检查，或微信错误码")]
    count: Annotated[int, described("发生次数")]
    first_time: Moment
    time: Moment
    alarm: Annotated[bool, described("微信确认的信息与本系统不符，须人工核对")]
    out_trade_no: str
    serial: Annotated[str, described("微信签名所用的证书序列号或公钥ID；不认识的为unknown")]
    detail: str
    explanation: Annotated[str, described("含义与处理方法")]
    request_id: Annotated[str, described("微信的Request-Id")]


class ExplainedView(FailureView, frozen=True, kw_only=True):
    """One failure with its evidence."""

    headers: dict[str, str]
    evidence: Annotated[str, described("微信报文，已隐去敏感信息")]


@frozen
class FailureApi:
    """What was refused or went wrong, with its evidence (R28, R48)."""

    book: FailureBook

    def routes(self) -> tuple[Route, ...]:
        """List them, and show one."""
        return (
            Route(
                method="GET",
                path="/api/wechat/pay/failures",
                who=Who.OPERATOR,
                handler=self.list,
                summary="被拒绝的通知与失败的调用",
                parameters=WhichFailures,
                answer=Success[tuple[FailureView, ...]],
                refusals=(StoreUnavailable,),
            ),
            Route(
                method="GET",
                path="/api/wechat/pay/failures/{failure_id}",
                who=Who.OPERATOR,
                handler=self.show,
                summary="一条故障及其证据",
                parameters=OneFailure,
                answer=Success[ExplainedView],
                refusals=(FailureNotFound, StoreUnavailable),
            ),
        )

    async def list(self, call: Call[None, WhichFailures]) -> Success[tuple[FailureView, ...]]:
        """What came last first."""
        found = await self.book.newest(call.parameters.limit)
        return Success(data=tuple(failure_view(failure) for failure in found))

    async def show(self, call: Call[None, OneFailure]) -> Success[ExplainedView]:
        """One failure. Raises FailureNotFound."""
        return Success(data=explained_view(await self.book.find(call.parameters.failure_id)))


def failure_view(failure: Failure) -> FailureView:
    """The failure without its evidence."""
    return FailureView(**_told(failure))


def explained_view(failure: Failure) -> ExplainedView:
    """The failure with its evidence."""
    return ExplainedView(**_told(failure), headers=dict(failure.headers), evidence=failure.evidence)


def _told(failure: Failure) -> dict[str, Any]:
    return {
        "failure_id": failure.id,
        "kind": failure.kind,
        "code": failure.code,
        "count": failure.count,
        "first_time": beijing(failure.first_at),
        "time": beijing(failure.at),
        "alarm": failure.is_alarm,
        "out_trade_no": failure.out_trade_no,
        "serial": failure.serial,
        "detail": failure.detail,
        "explanation": failure.explanation,
        "request_id": failure.request_id,
    }
