"""The API's document says what the service does: made from its routes, checked against its answers."""

import re
from collections.abc import Iterator

import jsonschema_rs
import pytest
from aiohttp import ClientSession
from msgspec import Struct
from schemathesis.specs.openapi.definitions import OPENAPI_31

from adapters.http.errors import MESSAGE, STATUS, status_of
from adapters.http.openapi import TAGS, document
from adapters.http.openapi_examples import EXAMPLES
from adapters.http.openapi_shapes import tidy_name
from adapters.http.routes import PlainRoute, Route, Who
from application.access import Scope
from application.errors import StoreUnavailable
from application.ports import Meaning, Refused, Unknown
from tests.documented_till import documented_till
from tests.http_till import CLOSE, CREATE, HISTORY, ORDERS, PAY, QUERY, REFUND, REFUNDS, STATS, TEA, WEBHOOKS
from tests.http_till import Till as ScriptedTill

NOTIFY = "/api/wechat/pay/notify"
NUMBER = "PAY17031234560000000001"


@pytest.fixture
def served(runner, tmp_path):
    opened = documented_till(tmp_path)
    yield runner.run(opened.__aenter__())
    runner.run(opened.__aexit__(None, None, None))


@pytest.fixture
def till(runner):
    till = runner.run(ScriptedTill().open())
    yield till
    runner.run(till.close())


async def fetched(served):
    async with ClientSession() as client, client.get(f"{served.url}/openapi.json") as answer:
        assert answer.status == 200
        return await answer.json()


def operations(description) -> Iterator[tuple[str, str, dict]]:
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def within(schema, description):
    """A validator of one schema of the document."""
    return jsonschema_rs.Draft202012Validator({**schema, "components": description["components"]})


def codes_of(answer):
    _, these = answer["content"]["application/json"]["schema"]["allOf"]
    return these["properties"]["error"]["properties"]["code"]["enum"]


# -- the document itself ---------------------------------------------------------------------


async def test_the_document_is_valid_by_the_official_schema_of_openapi_3_1(served):
    description = await fetched(served)
    jsonschema_rs.Draft202012Validator(OPENAPI_31).validate(description)
    for schema in description["components"]["schemas"].values():
        assert jsonschema_rs.meta.is_valid(
            {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
        )


async def test_every_call_of_the_service_is_described_and_nothing_else(served):
    description = await fetched(served)
    assert {(method, path) for method, path, _ in operations(description)} == served.calls


async def test_every_reference_leads_somewhere(served):
    description = await fetched(served)
    references = set(re.findall(r'"\$ref": ?"([^"]+)"', str(description).replace("'", '"')))
    assert len(references) > 20
    for reference in references:
        part = description
        for name in reference.removeprefix("#/").split("/"):
            part = part[name]


async def test_each_operation_has_a_name_of_its_own_a_summary_and_a_chapter(served):
    description = await fetched(served)
    names = [operation["operationId"] for _, _, operation in operations(description)]
    assert len(set(names)) == len(names)
    chapters = [tag["name"] for tag in description["tags"]]
    assert chapters == list(dict.fromkeys(name for _, name, _ in TAGS))
    chapter = {path: operation["tags"] for _, path, operation in operations(description)}
    assert (chapter[REFUND], chapter[STATS], chapter["/healthz"]) == (["退款"], ["支付"], ["运行"])
    for _, path, operation in operations(description):
        assert re.search(r"[\u4e00-\u9fff]", operation["summary"]), path
        assert set(operation["tags"]) <= set(chapters)


async def test_every_code_is_listed_with_its_status_and_its_sentence(served):
    description = await fetched(served)
    listed = description["x-error-codes"]
    assert {code: one["message"] for code, one in listed.items()} == dict(MESSAGE)
    assert description["components"]["schemas"]["ErrorCode"]["enum"] == list(listed)
    assert {one["status"] for one in listed.values()} == set(STATUS.values())
    assert listed["FEE_OUT_OF_RANGE"]["status"] == 400


async def test_each_declared_refusal_stands_under_its_status(served, till):
    description = document(till.routes, "1")
    for route in till.routes:
        answers = description["paths"][route.path][route.method.lower()]["responses"]
        told = {
            (int(status), code) for status in answers if status != "200" for code in codes_of(answers[status])
        }
        assert told == {(status_of(kind), kind.code) for kind in route.all_refusals}
    for _, path, operation in operations(await fetched(served)):
        for status, answer in operation["responses"].items():
            if "application/json" in answer.get("content", {}) and int(status) >= 400 and path != NOTIFY:
                assert set(codes_of(answer)) <= set(MESSAGE)
                assert ("Retry-After" in answer["headers"]) == (status in {"429", "503"})
                assert ("WWW-Authenticate" in answer["headers"]) == (status == "401")


async def test_every_answer_carries_its_request_id(served):
    for _, _, operation in operations(await fetched(served)):
        for answer in operation["responses"].values():
            assert answer["headers"]["X-Request-Id"] == {"$ref": "#/components/headers/RequestId"}


async def test_the_examples_fit_their_shapes(served):
    description = await fetched(served)
    assert set(EXAMPLES) <= set(description["paths"])
    seen = 0
    for _, path, operation in operations(description):
        contents = [*operation.get("requestBody", {"content": {}})["content"].values()]
        for answer in operation["responses"].values():
            contents += answer.get("content", {}).values()
        for content in contents:
            if "example" in content:
                seen += 1
                assert within(content["schema"], description).is_valid(content["example"]), path
            for example in content.get("examples", {}).values():
                code = example["$ref"].rpartition("/")[2]
                value = description["components"]["examples"][code]["value"]
                assert within(content["schema"], description).is_valid(value), (path, code)
    assert seen > len(EXAMPLES)


# -- what it says of single calls ------------------------------------------------------------


def test_a_create_is_described_by_the_shape_that_checks_it(till):
    description = document(till.routes, "1")
    create = description["paths"][CREATE]["post"]
    assert create["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/CreateOrder"
    }
    shape = description["components"]["schemas"]["CreateOrder"]
    assert shape["properties"]["total_fee"]["maximum"] == 1_000_000
    assert shape["additionalProperties"] is False
    assert "attach" not in shape["required"]


def test_path_and_query_parameters_are_told_apart(till):
    orders = document(till.routes, "1")["paths"][f"{ORDERS}{{openid}}"]["get"]["parameters"]
    told = {one["name"]: (one["in"], one["required"]) for one in orders if "name" in one}
    assert told == {
        "openid": ("path", True),
        "limit": ("query", False),
        "cursor": ("query", False),
        "status": ("query", False),
    }
    limit = next(one for one in orders if one.get("name") == "limit")
    assert limit["schema"] == {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}
    assert "OrdersOf" not in document(till.routes, "1")["components"]["schemas"]


def test_the_idempotency_key_is_named_where_it_is_heeded(till):
    key = {"$ref": "#/components/parameters/IdempotencyKey"}
    named = {
        path
        for _, path, operation in operations(document(till.routes, "1"))
        if key in operation["parameters"]
    }
    assert named == {CREATE, REFUND}
    heeding = {route.path for route in till.routes if "IDEMPOTENCY_KEY_REUSED" in codes(route)}
    assert named == heeding


def codes(route):
    return {kind.code for kind in route.all_refusals}


@pytest.mark.parametrize(
    ("who", "scope", "security"),
    [
        (Who.ANYONE, None, []),
        (Who.WECHAT, None, []),
        (Who.OPERATOR, None, [{"key": ["admin"]}]),
        (Who.PAYER | Who.BACKEND, Scope.PAY, [{"payer": []}, {"key": ["pay"]}]),
        (Who.BACKEND | Who.OPERATOR, Scope.REFUND, [{"key": ["refund"]}, {"key": ["admin"]}]),
    ],
)
def test_a_call_says_who_may_make_it(who, scope, security):
    route = PlainRoute(method="GET", path="/x", who=who, scope=scope, summary="某页", handler=None)
    operation = document([route], "1")["paths"]["/x"]["get"]
    assert operation["security"] == security
    assert operation["responses"]["200"]["content"] == {"text/plain": {"schema": {"type": "string"}}}


def test_a_page_of_its_own_words_is_refused_in_plain_text():
    route = PlainRoute(method="GET", path="/x", who=Who.OPERATOR, summary="某页", handler=None)
    answers = document([route], "1")["paths"]["/x"]["get"]["responses"]
    assert sorted(answers) == ["200", "401", "403", "500", "503"]
    assert "FORBIDDEN" in answers["403"]["description"]
    assert all(set(answer["content"]) == {"text/plain"} for answer in answers.values())


async def test_wechats_notifications_are_described_as_wechats_and_ask_for_no_login(served):
    """R22."""
    notify = (await fetched(served))["paths"][NOTIFY]["post"]
    assert notify["security"] == []
    assert set(notify["requestBody"]["content"]) == {"text/xml", "application/json"}
    assert {"200", "204", "401", "500"} <= set(notify["responses"])


def test_a_change_of_a_shape_is_a_change_of_the_document():
    class Wish(Struct):
        cups: int

    class Tea(Struct):
        name: str
        hot: bool = True

    route = Route(
        method="POST", path="/tea", who=Who.ANYONE, summary="茶", handler=None, body=Wish, answer=Tea
    )
    schemas = document([route], "1")["components"]["schemas"]
    assert schemas["Wish"]["properties"] == {"cups": {"type": "integer"}}
    assert schemas["Tea"]["required"] == ["name", "hot"]  # an answer never leaves out its defaults


def test_a_generic_shape_has_a_readable_name():
    assert tidy_name("Success[tuple[adapters.http.shapes_life.RefundView, ...]]") == "Success_list_RefundView"
    assert tidy_name("CreateOrder") == "CreateOrder"


# -- real answers ----------------------------------------------------------------------------


async def conversation(till):
    """Calls of every kind, with the answers that really came."""
    client = till.client

    async def call(method, path, template, **more):
        async with client.request(method, path, **more) as answer:
            return method, template, answer.status, await answer.json()

    def one(path):
        return path + "{out_trade_no}"

    yield await call("POST", CREATE, CREATE, json=TEA)
    yield await call("POST", CREATE, CREATE, json=TEA | {"total_fee": 0})
    yield await call("POST", CREATE, CREATE, data=b"tea")
    yield await call("GET", QUERY + NUMBER, one(QUERY))
    yield await call("GET", QUERY + "PAY0", one(QUERY))
    yield await call("POST", PAY + NUMBER, one(PAY))
    await till.pay(NUMBER)
    yield await call("GET", QUERY + NUMBER, one(QUERY))
    yield await call("POST", CLOSE + NUMBER, one(CLOSE))
    yield await call("GET", ORDERS + TEA["openid"], ORDERS + "{openid}")
    yield await call("GET", ORDERS + TEA["openid"], ORDERS + "{openid}", params={"limit": "0"})
    yield await call("GET", STATS, STATS)
    yield await call("POST", REFUND, REFUND, json={"out_trade_no": NUMBER, "refund_fee": 40})
    refund_no = till.gateway.carried[0].out_refund_no
    yield await call("GET", f"{REFUND}/{refund_no}", REFUND + "/{out_refund_no}")
    yield await call("GET", REFUNDS, REFUNDS, params={"status": "PROCESSING"})
    yield await call("GET", HISTORY + NUMBER, one(HISTORY))
    yield await call("GET", WEBHOOKS, WEBHOOKS)
    till.gateway.answer = Refused(meaning=Meaning.CONFIGURATION, err_code="NOAUTH", description="商户无权限")
    yield await call("POST", CREATE, CREATE, json=TEA)
    till.gateway.answer = Unknown(why="timed out")
    yield await call("POST", CREATE, CREATE, json=TEA)


async def test_real_answers_fit_the_document(till):
    description = document(till.routes, "1")
    statuses = []
    async for method, path, status, answer in conversation(till):
        told = description["paths"][path][method.lower()]["responses"][str(status)]
        schema = told["content"]["application/json"]["schema"]
        errors = [error.message for error in within(schema, description).iter_errors(answer)]
        assert not errors, (path, answer)
        statuses.append(status)
    assert {200, 400, 404, 409, 415, 502, 504} == set(statuses)


async def test_an_answer_of_another_shape_does_not_fit(till):
    description = document(till.routes, "1")
    told = description["paths"][STATS]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    fit = within(told, description).is_valid
    assert fit({"success": True, "data": dict.fromkeys(EXAMPLES[STATS][1]["data"], 1)})
    assert not fit({"success": True, "data": {"total": 1}})
    assert not fit({"success": False, "data": dict.fromkeys(EXAMPLES[STATS][1]["data"], 1)})
    assert StoreUnavailable.code in codes_of(description["paths"][STATS]["get"]["responses"]["503"])
