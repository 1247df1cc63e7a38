"""What goes over the wire about the rest of an order's life: refunds, history, letters to the shop."""

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from adapters.http.shapes import PAGE_DEFAULT, OutTradeNo, TotalFee, described, ecma
from application.outbox import LetterState
from application.payments import PAGE_MAX
from domain.order import Status
from domain.refund import OUT_REFUND_NO, REASON_BYTES_MAX
from domain.trade import RefundStatus

OutRefundNo = Annotated[str, described("商户退款单号", pattern=ecma(OUT_REFUND_NO.pattern))]
Moment = Annotated[str, described("时间，yyyy-MM-ddTHH:mm:ss，UTC+8")]
EventId = Annotated[str, described("事件编号，商户订单号-版本", pattern="^.+-[0-9]+$")]


class AskRefund(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A refund to be made; without refund_fee, of all that is left."""

    out_trade_no: OutTradeNo
    refund_fee: TotalFee | None = None
    reason: Annotated[
        str | None, described("退款原因，付款人可见，按UTF-8不超过80字节", maxLength=REASON_BYTES_MAX)
    ] = None
    out_refund_no: OutRefundNo | None = None


class OneRefund(Struct, frozen=True, kw_only=True):
    """Which refund."""

    out_refund_no: OutRefundNo


class OneLetter(Struct, frozen=True, kw_only=True):
    """Which letter."""

    event_id: EventId


class WhichRefunds(Struct, frozen=True, kw_only=True):
    """Refunds of a status, the newest first."""

    status: Annotated[RefundStatus, Meta(description="退款状态")] = RefundStatus.ABNORMAL
    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX, description="条数")] = PAGE_DEFAULT


class WhichLetters(Struct, frozen=True, kw_only=True):
    """Letters of a state, the newest first."""

    state: Annotated[LetterState | UnsetType, Meta(description="只列出该状态的通知")] = UNSET
    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX, description="条数")] = PAGE_DEFAULT


class RefundView(Struct, frozen=True, kw_only=True):
    """Where one refund stands."""

    out_refund_no: OutRefundNo
    out_trade_no: OutTradeNo
    refund_id: Annotated[str | None, described("微信退款单号；微信受理前为null")]
    status: RefundStatus
    refund_fee: TotalFee
    reason: str
    create_time: Moment
    success_time: Moment | None
    failure: Annotated[str, described("微信拒绝退款时的说明")] = ""


class DeliveryView(Struct, frozen=True, kw_only=True):
    """One try to tell the shop's backend."""

    time: Moment
    heard: Annotated[bool, described("商户后台是否已接收")]
    status: Annotated[int | None, described("HTTP状态码；没有应答时为null")]
    answer: str
    error: str
    milliseconds: int


class EventView(Struct, frozen=True, kw_only=True):
    """One step of an order: what, when, why, what it left behind, and who was told."""

    version: int
    event: str
    time: Moment
    cause: Annotated[str, described("起因：接口调用、微信通知、查询、定时任务等")]
    status_before: Status | None
    facts: dict[str, Any]
    evidence: Annotated[str, described("微信报文，已隐去敏感信息")]
    deliveries: tuple[DeliveryView, ...]


class HistoryView(Struct, frozen=True, kw_only=True):
    """Everything that ever happened to an order, in order."""

    out_trade_no: OutTradeNo
    events: tuple[EventView, ...]


class LetterView(Struct, frozen=True, kw_only=True):
    """One letter to the shop's backend."""

    event_id: EventId
    event: str
    out_trade_no: OutTradeNo
    state: LetterState
    tries: int
    due_time: Moment | None


class ReplayedView(Struct, frozen=True, kw_only=True):
    """A letter that will be delivered again."""

    event_id: EventId
    state: LetterState
