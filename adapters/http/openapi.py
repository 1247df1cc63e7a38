"""The API's document, OpenAPI 3.1: made from the routes that are served and the shapes that check them."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from adapters.http.errors import MESSAGE, InternalError, status_of
from adapters.http.idempotency import KEY_MAX
from adapters.http.openapi_examples import EXAMPLES, REQUEST_ID
from adapters.http.openapi_shapes import Object, Shapes, listed
from adapters.http.routes import GUARDED, IN_PATH, AnyRoute, PlainRoute, Route, Who
from adapters.http.shapes import ErrorAnswer
from application.access import Scope
from domain.errors import PaymentError

JSON = "application/json"

INFO = """\
微信小程序支付收款服务。金额均为整数，单位为分（1元＝100分）；时间均为UTC+8。

成功的应答是 `{"success": true, "data": …}`，失败的应答是
`{"success": false, "error": {"code", "message", "request_id"}}`：
`code` 供程序判断，不会改变；`message` 可以直接展示给付款人；`request_id` 用于查日志。
全部错误码见 `ErrorCode`。超时（`WECHAT_NO_ANSWER`）不等于失败，请稍后查询结果。

任何请求都可能得到：没有这个路径404；方法不对405，以 `Allow` 列出可用的方法（支持GET的路径也支持HEAD）；
请求过慢408、地址过长414、请求头过大431、连接过多503。
查询参数中没有列出的一概忽略。`MINITILL_AUTH_MODE=open` 时不校验调用者身份。
"""

# Chapters in the order of reading; the longest prefix that fits counts.
TAGS = (
    ("/api/wechat/login", "登录", "用 wx.login 的 code 换取令牌"),
    ("/api/wechat/pay/", "支付", "下单、查询、关闭与统计"),
    ("/api/wechat/pay/refund", "退款", "申请、查询与处理退款"),
    ("/api/wechat/pay/notify", "微信通知", "由微信支付调用"),
    ("/api/wechat/pay/webhooks", "商户通知", "发给商户后台的通知"),
    ("/", "运行", "供监控与运维使用"),
    ("/api/wechat/pay/failures", "运行", "供监控与运维使用"),
    ("/openapi.json", "文档", "本文档"),
    ("/docs", "文档", "本文档"),
)

CALLERS = {Who.PAYER: "付款人（只能操作自己的订单）", Who.BACKEND: "商户后台", Who.OPERATOR: "运营人员"}

SECURITY_SCHEMES = {
    "payer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "付款人的令牌，由 `POST /api/wechat/login` 签发",
    },
    "key": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "mt_…",
        "description": "商户后台或运营人员的API密钥，由 `minitill keys create` 生成；"
        "权限为 `pay`、`read`、`refund`，运营人员为 `admin`",
    },
}

PARAMETERS = {
    "RequestId": {
        "name": "X-Request-Id",
        "in": "header",
        "description": "调用方自己的请求编号，8至64个字母、数字、_或-；不合要求或未提供时由服务生成",
        "schema": {"type": "string"},
    },
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "同一个键重复请求只执行一次，并得到同样的应答；"
        "同一个键用于不同的内容时应答 `IDEMPOTENCY_KEY_REUSED`",
        "schema": {
            "type": "string",
            "minLength": 1,
            "maxLength": KEY_MAX,
            "pattern": "^[!-~]([ -~]*[!-~])?$",
        },
    },
}

HEADERS = {
    "RequestId": {
        "description": "请求编号，日志中的每一行都带有它",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{8,64}$"},
        "example": REQUEST_ID,
    },
    "Authenticate": {"description": "须出示令牌或密钥", "schema": {"const": "Bearer"}},
    "RetryAfter": {
        "description": "多少秒之后可以重试",
        "schema": {"type": "integer", "minimum": 0},
    },
}

HEADERS_OF: Mapping[int, Mapping[str, str]] = {
    401: {"WWW-Authenticate": "Authenticate"},
    429: {"Retry-After": "RetryAfter"},
    503: {"Retry-After": "RetryAfter"},
}


def document(routes: Iterable[Route | PlainRoute], version: str) -> Object:
    """Describe the routes, all of them and nothing else; `version` is minitill's."""
    routes = tuple(routes)
    shapes = Shapes.of(routes)
    paths: dict[str, Object] = defaultdict(dict)
    for route in routes:
        paths[route.path][route.method.lower()] = operation(route, shapes)
    used = {tag_of(route) for route in routes}
    chapters = {name: text for _, name, text in TAGS if name in used}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "minitill",
            "version": version,
            "summary": "微信小程序支付",
            "description": INFO,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "tags": [{"name": name, "description": text} for name, text in chapters.items()],
        "paths": dict(paths),
        "components": {
            "schemas": shapes.public,
            "parameters": PARAMETERS,
            "headers": HEADERS,
            "examples": {code: {"value": refused(code)} for code in sorted(MESSAGE)},
            "securitySchemes": SECURITY_SCHEMES,
        },
        "x-error-codes": {
            code: {"status": status, "message": MESSAGE[code]} for code, status in listed().items()
        },
    }


def operation(route: Route | PlainRoute, shapes: Shapes) -> Object:
    """One call, as OpenAPI says it."""
    parts: Object = {
        "operationId": "_".join([route.method.lower(), *re.findall(r"\w+", route.path)]),
        "summary": route.summary,
        "description": callers(route),
        "tags": [tag_of(route)],
        "security": list(security(route)),
    }
    if isinstance(route, PlainRoute):
        return {**parts, **route.described, "responses": plain_answers(route)}
    parts |= {
        "parameters": list(parameters(route, shapes)),
        "responses": {"200": answer(route, shapes)} | refusals(route.all_refusals, shapes),
    }
    if route.body:
        example, _ = EXAMPLES.get(route.path, (None, None))
        parts["requestBody"] = {
            "required": True,
            "content": {JSON: _content(shapes.ref(route.body), example)},
        }
    return parts


def parameters(route: Route, shapes: Shapes) -> Iterator[Object]:
    """Those of path and query, then the headers that we read."""
    if route.parameters:
        shape = shapes.schema(route.parameters)
        in_path = IN_PATH.findall(route.path)
        for name, given in shape["properties"].items():
            schema = {key: value for key, value in given.items() if key != "description"}
            yield {
                "name": name,
                "in": "path" if name in in_path else "query",
                "required": name in in_path or name in shape.get("required", ()),
                "description": given.get("description", ""),
                "schema": schema,
            }
    if route.idempotent:
        yield {"$ref": "#/components/parameters/IdempotencyKey"}
    yield {"$ref": "#/components/parameters/RequestId"}


def answer(route: Route, shapes: Shapes) -> Object:
    """The answer when all goes well."""
    _, example = EXAMPLES.get(route.path, (None, None))
    return {
        "description": "成功",
        "headers": _headers(),
        "content": {JSON: _content(shapes.ref(route.answer), example)},
    }


def refusals(kinds: Iterable[type[PaymentError]], shapes: Shapes) -> Object:
    """Every refusal under its status, with the payer's sentence of each code."""
    by_status: dict[int, list[str]] = defaultdict(list)
    for kind in kinds:
        by_status[status_of(kind)].append(kind.code)
    return {str(status): _refusal(status, codes, shapes) for status, codes in sorted(by_status.items())}


def _refusal(status: int, codes: list[str], shapes: Shapes) -> Object:
    one_of_these = {
        "type": "object",
        "properties": {"error": {"type": "object", "properties": {"code": {"enum": codes}}}},
    }
    return {
        "description": "\n".join(f"- `{code}` {MESSAGE[code]}" for code in codes),
        "headers": _headers(status),
        "content": {
            JSON: {
                "schema": {"allOf": [shapes.ref(ErrorAnswer), one_of_these]},
                "examples": {code: {"$ref": f"#/components/examples/{code}"} for code in codes},
            }
        },
    }


def plain_answers(route: PlainRoute) -> Object:
    """What the route says of its answers, and the refusals that come before it gets to speak."""
    told = route.described.get("responses", {"200": plain_answer()})
    kinds = (InternalError,) if route.is_open else (InternalError, *GUARDED)
    lines: dict[int, list[str]] = defaultdict(list)
    for kind in kinds:
        lines[status_of(kind)].append(f"- `{kind.code}` {MESSAGE[kind.code]}")
    before = {str(status): plain_answer("\n".join(of), status=status) for status, of in sorted(lines.items())}
    return {**before, **told}


def plain_answer(description: str = "成功", media_type: str = "text/plain", status: int = 200) -> Object:
    """An answer of a plain route."""
    content = {media_type: {"schema": {"type": "string"}}}
    return {"description": description, "headers": _headers(status), "content": content}


def security(route: AnyRoute) -> Iterator[Object]:
    """Any one of these opens the route; none where it is open to all. Keys name the scope they need."""
    if Who.PAYER in route.who:
        yield {"payer": []}
    if Who.BACKEND in route.who:
        yield {"key": [route.scope] if route.scope else []}
    if Who.OPERATOR in route.who:
        yield {"key": [Scope.ADMIN]}


def callers(route: AnyRoute) -> str:
    """Who may call, in Chinese."""
    if route.is_open:
        return "调用者：不限。"
    who = "、".join(name for kind, name in CALLERS.items() if kind in route.who)
    return f"调用者：{who}。" + (f"商户后台的密钥须有 `{route.scope}` 权限。" if route.scope else "")


def tag_of(route: AnyRoute) -> str:
    """The chapter that the route belongs to."""
    _, name = max((len(prefix), name) for prefix, name, _ in TAGS if route.path.startswith(prefix))
    return name


def refused(code: str) -> Object:
    """A refusal as an example."""
    return {"success": False, "error": {"code": code, "message": MESSAGE[code], "request_id": REQUEST_ID}}


def _headers(status: int = 200) -> Object:
    names = {"X-Request-Id": "RequestId", **HEADERS_OF.get(status, {})}
    return {name: {"$ref": f"#/components/headers/{part}"} for name, part in names.items()}


def _content(schema: Object, example: Any) -> Object:
    return {"schema": schema} | ({} if example is None else {"example": example})
