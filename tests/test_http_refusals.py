"""Each refusal has its status and its sentence, wherever in the project it is defined."""

import importlib
import pkgutil
import re

import pytest

import adapters.http
import application
import domain
from adapters.http.api import PaymentApi
from adapters.http.errors import MESSAGE, RETRY_AFTER, TooManyRequests, explained, status_of
from adapters.http.health import Health
from adapters.http.routes import Route
from adapters.http.shapes import CreateOrder
from application.answers import KeyReused, KeyTaken
from application.errors import Busy, StoreUnavailable, WechatRefused, WechatSilent
from application.ports import Meaning, Refused, Unknown
from domain import errors
from domain.errors import PaymentError

ROOMS = (domain, application, adapters.http)
STATUSES = {400, 401, 403, 404, 405, 408, 409, 413, 414, 415, 422, 429, 431, 500, 502, 503, 504}


def every_refusal():
    for room in ROOMS:
        for module in pkgutil.iter_modules(room.__path__, f"{room.__name__}."):
            importlib.import_module(module.name)
    kinds = [PaymentError]
    for kind in kinds:
        kinds.extend(child for child in kind.__subclasses__() if child not in kinds)
    names = tuple(room.__name__ for room in ROOMS)
    return [kind for kind in kinds[1:] if kind.__module__.startswith(names)]


@pytest.mark.parametrize("kind", every_refusal(), ids=lambda kind: kind.__name__)
def test_a_refusal_has_a_status_and_one_sentence_for_the_payer(kind):
    assert status_of(kind) in STATUSES
    assert re.fullmatch(r"[^。a-z{}]*[\u4e00-\u9fff][^。a-z{}]*。", MESSAGE[kind.code])


def test_no_sentence_is_left_without_a_refusal():
    codes = {kind.code for kind in every_refusal()}
    assert set(MESSAGE) == codes
    later = {kind.code for kind in every_refusal() if status_of(kind) in {429, 503}}
    assert set(RETRY_AFTER) == later - {TooManyRequests.code}  # that one tells its own time


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.FeeOutOfRange, 400),
        (errors.OrderNotFound, 404),
        (errors.RefundNotFound, 404),
        (errors.FeeMismatch, 409),
        (errors.OrderPaid, 409),
        (errors.RefundNumberReused, 409),
        (errors.StaleOrder, 409),
        (KeyTaken, 409),
        (KeyReused, 422),
        (WechatRefused, 502),
        (Busy, 503),
        (StoreUnavailable, 503),
        (WechatSilent, 504),
    ],
)
def test_the_statuses_are_those_of_the_contract(kind, status):
    assert status_of(kind) == status


def test_what_a_refusal_says_inside_stays_inside():
    answer = explained(errors.FeeMismatch("ours 100, WeChat's 1"), "r")
    assert "100" not in repr(answer)
    silent = WechatSilent("PAY1", Unknown(why="no route to 10.0.0.7", err_code="SYSTEMERROR"))
    assert "10.0.0.7" not in repr(explained(silent, "r"))
    refused = Refused(meaning=Meaning.PAYER, err_code="E", explanation="for developers only")
    assert "developers" not in repr(explained(WechatRefused("PAY1", refused), "r"))


def test_a_route_lists_every_refusal_that_its_shapes_bring():
    routes = [*PaymentApi(None).routes(), *Health(checks={}).routes()]
    assert all(isinstance(route, Route) for route in routes)
    create = next(route for route in routes if route.body is CreateOrder)
    codes = {kind.code for kind in create.all_refusals}
    assert {"BAD_JSON", "BAD_REQUEST", "UNSUPPORTED_MEDIA_TYPE", "BODY_TOO_LARGE", "FEE_INVALID"} <= codes
    assert len(codes) == len(create.all_refusals)
